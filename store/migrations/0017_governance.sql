CREATE TABLE "access_tokens" (
	"id" text PRIMARY KEY NOT NULL,
	"hash" text NOT NULL,
	"who" text NOT NULL,
	"roles" text[] NOT NULL,
	"projects" text[] NOT NULL,
	"created_by" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"revoked_at" timestamp (3) with time zone,
	"revoked_by" text,
	CONSTRAINT "access_tokens_hash_unique" UNIQUE("hash")
);
--> statement-breakpoint
CREATE TABLE "artifact_files" (
	"path" text collate "C" PRIMARY KEY NOT NULL,
	"sha256" text NOT NULL,
	"size_bytes" bigint NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "audit_log" (
	"seq" bigint PRIMARY KEY NOT NULL,
	"at" timestamp (3) with time zone NOT NULL,
	"who" text NOT NULL,
	"action" text NOT NULL,
	"subject" text NOT NULL,
	"details" jsonb NOT NULL,
	"prev_hash" text NOT NULL,
	"hash" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "comments" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"subject" text NOT NULL,
	"who" text NOT NULL,
	"text" text NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "comments_kind" CHECK ("kind" in ('run', 'version'))
);
--> statement-breakpoint
CREATE TABLE "delegations" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"lender" text NOT NULL,
	"borrower" text NOT NULL,
	"until" timestamp (3) with time zone NOT NULL,
	"reason" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"ended_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "latest_metrics" (
	"run_id" text NOT NULL,
	"name" text NOT NULL,
	"stage" text NOT NULL,
	"key" text NOT NULL,
	"value" double precision NOT NULL,
	"step" bigint NOT NULL,
	"at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "latest_metrics_run_id_name_pk" PRIMARY KEY("run_id","name")
);
--> statement-breakpoint
CREATE TABLE "lineage_events" (
	"run_id" text NOT NULL,
	"event" text NOT NULL,
	"seq" bigint NOT NULL,
	"closed" boolean DEFAULT false NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"delivered_at" timestamp (3) with time zone,
	"gave_up_at" timestamp (3) with time zone,
	"last_error" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "lineage_events_run_id_event_pk" PRIMARY KEY("run_id","event"),
	CONSTRAINT "lineage_events_event" CHECK ("event" in ('start', 'end'))
);
--> statement-breakpoint
CREATE TABLE "logged_model_metrics" (
	"model_id" text NOT NULL,
	"run_id" text NOT NULL,
	"key" text NOT NULL,
	"value" double precision NOT NULL,
	"step" bigint NOT NULL,
	"at" timestamp (3) with time zone NOT NULL,
	"dataset_name" text NOT NULL,
	"dataset_digest" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "logged_models" (
	"id" text PRIMARY KEY NOT NULL,
	"experiment_id" integer NOT NULL,
	"name" text NOT NULL,
	"model_type" text,
	"source_run_id" text,
	"status" text NOT NULL,
	"lifecycle_stage" text DEFAULT 'active' NOT NULL,
	"params" jsonb NOT NULL,
	"tags" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "logged_models_status" CHECK ("status" in ('pending', 'ready', 'failed'))
);
--> statement-breakpoint
CREATE TABLE "run_datasets" (
	"run_id" text NOT NULL,
	"name" text NOT NULL,
	"digest" text NOT NULL,
	"source_type" text NOT NULL,
	"source" text NOT NULL,
	"schema" text,
	"profile" text,
	"tags" jsonb NOT NULL,
	CONSTRAINT "run_datasets_run_id_name_digest_pk" PRIMARY KEY("run_id","name","digest")
);
--> statement-breakpoint
CREATE TABLE "run_models" (
	"run_id" text NOT NULL,
	"model_id" text NOT NULL,
	"role" text NOT NULL,
	"step" bigint NOT NULL,
	CONSTRAINT "run_models_run_id_role_model_id_step_pk" PRIMARY KEY("run_id","role","model_id","step"),
	CONSTRAINT "run_models_role" CHECK ("role" in ('input', 'output'))
);
--> statement-breakpoint
CREATE TABLE "signing_keys" (
	"name" text PRIMARY KEY NOT NULL,
	"secret" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "spent_vouchers" (
	"nonce" text PRIMARY KEY NOT NULL,
	"spent_by" text NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "approvals" DROP CONSTRAINT "approvals_status";--> statement-breakpoint
ALTER TABLE "aliases" DROP CONSTRAINT "aliases_model_models_name_fk";
--> statement-breakpoint
ALTER TABLE "aliases" DROP CONSTRAINT "aliases_version";
--> statement-breakpoint
ALTER TABLE "version_features" DROP CONSTRAINT "version_features_version";
--> statement-breakpoint
ALTER TABLE "versions" DROP CONSTRAINT "versions_model_models_name_fk";
--> statement-breakpoint
DROP INDEX "metrics_history";--> statement-breakpoint
ALTER TABLE "decisions" DROP CONSTRAINT "decisions_run_id_gate_who_pk";--> statement-breakpoint
ALTER TABLE "versions" ALTER COLUMN "predictor" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "approvals" ADD COLUMN "roles" text[] DEFAULT '{approver}' NOT NULL;--> statement-breakpoint
ALTER TABLE "approvals" ADD COLUMN "not_author" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "approvals" ADD COLUMN "author" text;--> statement-breakpoint
ALTER TABLE "approvals" ADD COLUMN "model" text;--> statement-breakpoint
ALTER TABLE "approvals" ADD COLUMN "evidence_changes" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "decisions" ADD COLUMN "id" bigserial PRIMARY KEY NOT NULL;--> statement-breakpoint
ALTER TABLE "decisions" ADD COLUMN "on_behalf_of" text;--> statement-breakpoint
ALTER TABLE "decisions" ADD COLUMN "voided_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "decisions" ADD COLUMN "void_reason" text;--> statement-breakpoint
ALTER TABLE "experiments" ADD COLUMN "pipeline" text;--> statement-breakpoint
ALTER TABLE "experiments" ADD COLUMN "artifact_location" text;--> statement-breakpoint
ALTER TABLE "experiments" ADD COLUMN "updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL;--> statement-breakpoint
ALTER TABLE "models" ADD COLUMN "updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL;--> statement-breakpoint
ALTER TABLE "models" ADD COLUMN "deleted_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "raised_alerts" ADD COLUMN "resolved_because" text;--> statement-breakpoint
ALTER TABLE "runs" ADD COLUMN "user_id" text;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "source" text;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "folder" text;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "run_link" text;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "logged_model" text;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "model_stage" text DEFAULT 'None' NOT NULL;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "deleted_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "latest_metrics" ADD CONSTRAINT "latest_metrics_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "lineage_events" ADD CONSTRAINT "lineage_events_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "logged_model_metrics" ADD CONSTRAINT "logged_model_metrics_model_id_logged_models_id_fk" FOREIGN KEY ("model_id") REFERENCES "public"."logged_models"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "logged_model_metrics" ADD CONSTRAINT "logged_model_metrics_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "logged_models" ADD CONSTRAINT "logged_models_experiment_id_experiments_id_fk" FOREIGN KEY ("experiment_id") REFERENCES "public"."experiments"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "run_datasets" ADD CONSTRAINT "run_datasets_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "run_models" ADD CONSTRAINT "run_models_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "artifact_files_sha256" ON "artifact_files" USING btree ("sha256");--> statement-breakpoint
CREATE INDEX "audit_log_subject" ON "audit_log" USING btree ("subject","seq");--> statement-breakpoint
CREATE INDEX "comments_of" ON "comments" USING btree ("kind","subject","id");--> statement-breakpoint
CREATE INDEX "latest_metrics_value" ON "latest_metrics" USING btree ("name","value","run_id");--> statement-breakpoint
CREATE INDEX "lineage_events_seq" ON "lineage_events" USING btree ("seq");--> statement-breakpoint
CREATE INDEX "lineage_events_open" ON "lineage_events" USING btree ("seq") WHERE event = 'start' and not closed;--> statement-breakpoint
CREATE INDEX "lineage_events_due" ON "lineage_events" USING btree ("seq") WHERE delivered_at is null and gave_up_at is null;--> statement-breakpoint
CREATE UNIQUE INDEX "logged_model_metrics_points" ON "logged_model_metrics" USING btree ("model_id","key","at","step","run_id","dataset_name","dataset_digest");--> statement-breakpoint
CREATE INDEX "logged_model_metrics_run" ON "logged_model_metrics" USING btree ("run_id");--> statement-breakpoint
CREATE INDEX "logged_models_experiment" ON "logged_models" USING btree ("experiment_id","created_at");--> statement-breakpoint
ALTER TABLE "aliases" ADD CONSTRAINT "aliases_model_models_name_fk" FOREIGN KEY ("model") REFERENCES "public"."models"("name") ON DELETE no action ON UPDATE cascade;--> statement-breakpoint
ALTER TABLE "aliases" ADD CONSTRAINT "aliases_version" FOREIGN KEY ("model","version") REFERENCES "public"."versions"("model","version") ON DELETE no action ON UPDATE cascade;--> statement-breakpoint
ALTER TABLE "version_features" ADD CONSTRAINT "version_features_version" FOREIGN KEY ("model","version") REFERENCES "public"."versions"("model","version") ON DELETE cascade ON UPDATE cascade;--> statement-breakpoint
ALTER TABLE "versions" ADD CONSTRAINT "versions_model_models_name_fk" FOREIGN KEY ("model") REFERENCES "public"."models"("name") ON DELETE no action ON UPDATE cascade;--> statement-breakpoint
CREATE INDEX "approvals_waiting" ON "approvals" USING btree ("model") WHERE status = 'pending';--> statement-breakpoint
CREATE INDEX "datasets_parents" ON "datasets" USING gin ("parents");--> statement-breakpoint
CREATE UNIQUE INDEX "decisions_standing" ON "decisions" USING btree ("run_id","gate","who") WHERE voided_at is null;--> statement-breakpoint
-- a point that was logged twice is one point
DELETE FROM "metrics" a USING "metrics" b WHERE a.ctid < b.ctid AND a.run_id = b.run_id AND a.key = b.key AND a.at = b.at AND a.step = b.step AND a.value = b.value AND a.stage = b.stage;--> statement-breakpoint
-- A point that was logged twice is one point.
DELETE FROM "metrics" AS m USING "metrics" AS other
WHERE m.ctid < other.ctid AND (m.run_id, m.key, m.at, m.step, m.value, m.stage) = (other.run_id, other.key, other.at, other.step, other.value, other.stage);--> statement-breakpoint
CREATE UNIQUE INDEX "metrics_points" ON "metrics" USING btree ("run_id","key","at","step","value","stage");--> statement-breakpoint
CREATE INDEX "runs_started" ON "runs" USING btree ("experiment_id",coalesce(started_at, created_at) desc,"id");--> statement-breakpoint
CREATE INDEX "stages_reads" ON "stages" USING gin (jsonb_path_query_array(input, 'strict $.** ? (@ like_regex "^[0-9a-f]{64}$")')) WHERE status = 'completed';--> statement-breakpoint
CREATE INDEX "versions_updated" ON "versions" USING btree ("updated_at","model","version");--> statement-breakpoint
ALTER TABLE "experiments" ADD CONSTRAINT "experiments_pipeline_unique" UNIQUE("pipeline");--> statement-breakpoint
ALTER TABLE "approvals" ADD CONSTRAINT "approvals_status" CHECK ("status" in ('pending', 'approved', 'rejected', 'expired', 'revoked'));--> statement-breakpoint
ALTER TABLE "versions" ADD CONSTRAINT "versions_model_stage" CHECK ("model_stage" in ('None', 'Staging', 'Production', 'Archived'));--> statement-breakpoint
ALTER TABLE "versions" ADD CONSTRAINT "versions_made_of" CHECK ("predictor" is not null or "source" is not null);