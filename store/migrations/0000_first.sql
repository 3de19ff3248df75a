CREATE TABLE "alias_history" (
	"model" text NOT NULL,
	"alias" text NOT NULL,
	"epoch" bigint NOT NULL,
	"version" integer,
	"moved_by_run" text,
	"reason" text,
	"moved_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "alias_history_model_alias_epoch_pk" PRIMARY KEY("model","alias","epoch")
);
--> statement-breakpoint
CREATE TABLE "aliases" (
	"model" text NOT NULL,
	"alias" text NOT NULL,
	"version" integer,
	"epoch" bigint NOT NULL,
	"moved_by_run" text,
	"moved_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "aliases_model_alias_pk" PRIMARY KEY("model","alias")
);
--> statement-breakpoint
CREATE TABLE "approvals" (
	"run_id" text NOT NULL,
	"gate" text NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"requested_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"evidence" jsonb,
	"approvers_needed" integer NOT NULL,
	"settled_at" timestamp (3) with time zone,
	CONSTRAINT "approvals_run_id_gate_pk" PRIMARY KEY("run_id","gate"),
	CONSTRAINT "approvals_status" CHECK ("status" in ('pending', 'approved', 'rejected', 'expired'))
);
--> statement-breakpoint
CREATE TABLE "artifacts" (
	"sha256" text PRIMARY KEY NOT NULL,
	"size_bytes" bigint NOT NULL,
	"kind" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "builds" (
	"id" text PRIMARY KEY NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"git_remote" text,
	"git_commit" text,
	"git_clean" boolean,
	"pipelines" jsonb NOT NULL,
	"bundles" jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "datasets" (
	"id" text PRIMARY KEY NOT NULL,
	"seq" bigserial NOT NULL,
	"name" text NOT NULL,
	"rows" bigint NOT NULL,
	"columns" jsonb NOT NULL,
	"size_bytes" bigint NOT NULL,
	"source" jsonb,
	"run_id" text,
	"stage" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "decisions" (
	"run_id" text NOT NULL,
	"gate" text NOT NULL,
	"who" text NOT NULL,
	"decision" text NOT NULL,
	"reason" text NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "decisions_run_id_gate_who_pk" PRIMARY KEY("run_id","gate","who")
);
--> statement-breakpoint
CREATE TABLE "endpoints" (
	"name" text PRIMARY KEY NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "experiments" (
	"id" serial PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"lifecycle_stage" text DEFAULT 'active' NOT NULL,
	"tags" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "experiments_name_unique" UNIQUE("name")
);
--> statement-breakpoint
CREATE TABLE "metrics" (
	"run_id" text NOT NULL,
	"stage" text DEFAULT '' NOT NULL,
	"key" text NOT NULL,
	"step" bigint DEFAULT 0 NOT NULL,
	"value" double precision NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "models" (
	"name" text PRIMARY KEY NOT NULL,
	"purpose" jsonb,
	"owner" text,
	"description" text,
	"tags" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"last_version" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "monitor_windows" (
	"endpoint" text NOT NULL,
	"from" timestamp (3) with time zone NOT NULL,
	"to" timestamp (3) with time zone NOT NULL,
	"figures" jsonb NOT NULL,
	"drifted" boolean NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "monitor_windows_endpoint_from_to_pk" PRIMARY KEY("endpoint","from","to")
);
--> statement-breakpoint
CREATE TABLE "monitors" (
	"endpoint" text PRIMARY KEY NOT NULL,
	"config" jsonb NOT NULL,
	"run_id" text,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "retrainings" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"pipeline" text NOT NULL,
	"key" text NOT NULL,
	"trigger" jsonb NOT NULL,
	"reasons" jsonb NOT NULL,
	"decision" text NOT NULL,
	"run_id" text,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "rollouts" (
	"id" text PRIMARY KEY NOT NULL,
	"seq" bigserial NOT NULL,
	"endpoint" text NOT NULL,
	"model" text NOT NULL,
	"version" integer NOT NULL,
	"run_id" text,
	"stage" text,
	"strategy" jsonb NOT NULL,
	"status" text NOT NULL,
	"steps" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"reason" text,
	"epoch" bigint,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp (3) with time zone,
	"ended_at" timestamp (3) with time zone,
	CONSTRAINT "rollouts_status" CHECK ("status" in ('queued', 'running', 'completed', 'rolled_back', 'failed'))
);
--> statement-breakpoint
CREATE TABLE "route_history" (
	"endpoint" text NOT NULL,
	"epoch" bigint NOT NULL,
	"champion" jsonb,
	"challenger" jsonb,
	"log" boolean NOT NULL,
	"rollout_id" text,
	"run_id" text,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "route_history_endpoint_epoch_pk" PRIMARY KEY("endpoint","epoch")
);
--> statement-breakpoint
CREATE TABLE "routes" (
	"endpoint" text PRIMARY KEY NOT NULL,
	"epoch" bigint NOT NULL,
	"champion" jsonb,
	"challenger" jsonb,
	"log" boolean NOT NULL,
	"rollout_id" text,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "run_params" (
	"run_id" text NOT NULL,
	"key" text NOT NULL,
	"value" text NOT NULL,
	CONSTRAINT "run_params_run_id_key_pk" PRIMARY KEY("run_id","key")
);
--> statement-breakpoint
CREATE TABLE "run_tags" (
	"run_id" text NOT NULL,
	"key" text NOT NULL,
	"value" text NOT NULL,
	CONSTRAINT "run_tags_run_id_key_pk" PRIMARY KEY("run_id","key")
);
--> statement-breakpoint
CREATE TABLE "runs" (
	"id" text PRIMARY KEY NOT NULL,
	"seq" bigserial NOT NULL,
	"workflow_id" text,
	"temporal_run_id" text,
	"pipeline" text NOT NULL,
	"name" text,
	"experiment_id" integer,
	"lifecycle_stage" text DEFAULT 'active' NOT NULL,
	"build_id" text,
	"status" text NOT NULL,
	"params" jsonb NOT NULL,
	"trigger" jsonb NOT NULL,
	"purpose" jsonb,
	"retry_of" text,
	"git_remote" text,
	"git_commit" text,
	"git_clean" boolean,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp (3) with time zone,
	"ended_at" timestamp (3) with time zone,
	"error" jsonb,
	CONSTRAINT "runs_status" CHECK ("status" in ('waiting', 'running', 'completed', 'failed', 'cancelled', 'terminated')),
	CONSTRAINT "runs_id" CHECK ("id" ~ '^[0-9a-f]{32}$')
);
--> statement-breakpoint
CREATE TABLE "server_routes" (
	"server_id" text NOT NULL,
	"endpoint" text NOT NULL,
	"epoch" bigint NOT NULL,
	"lease_until" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "server_routes_server_id_endpoint_pk" PRIMARY KEY("server_id","endpoint")
);
--> statement-breakpoint
CREATE TABLE "servers" (
	"id" text PRIMARY KEY NOT NULL,
	"url" text NOT NULL,
	"lease_until" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "serving_stats" (
	"server" text NOT NULL,
	"endpoint" text NOT NULL,
	"model" text NOT NULL,
	"version" integer NOT NULL,
	"from" timestamp (3) with time zone NOT NULL,
	"requests" bigint NOT NULL,
	"errors" bigint NOT NULL,
	"latency_ms_sum" double precision NOT NULL,
	"latency_ms_max" double precision NOT NULL,
	CONSTRAINT "serving_stats_endpoint_model_version_from_server_pk" PRIMARY KEY("endpoint","model","version","from","server")
);
--> statement-breakpoint
CREATE TABLE "stages" (
	"run_id" text NOT NULL,
	"name" text NOT NULL,
	"pipeline" text NOT NULL,
	"kind" text NOT NULL,
	"ordinal" integer NOT NULL,
	"status" text NOT NULL,
	"attempts" integer NOT NULL,
	"token" bigint NOT NULL,
	"pool" text,
	"device" text,
	"worker" text,
	"fingerprint" text,
	"fingerprint_parts" jsonb,
	"miss_reason" jsonb,
	"cached_from" jsonb,
	"input" jsonb,
	"output" jsonb,
	"started_at" timestamp (3) with time zone NOT NULL,
	"ended_at" timestamp (3) with time zone,
	"error" jsonb,
	"cpu_seconds" double precision,
	"peak_mib" double precision,
	"checkpoint_sha" text,
	"checkpoint_step" bigint,
	CONSTRAINT "stages_run_id_name_pk" PRIMARY KEY("run_id","name"),
	CONSTRAINT "stages_status" CHECK ("status" in ('running', 'completed', 'failed', 'cancelled'))
);
--> statement-breakpoint
CREATE TABLE "undos" (
	"seq" bigserial PRIMARY KEY NOT NULL,
	"run_id" text NOT NULL,
	"stage" text NOT NULL,
	"kind" text NOT NULL,
	"key" text NOT NULL,
	"payload" jsonb NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"outcome" text,
	"error" jsonb,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"done_at" timestamp (3) with time zone,
	CONSTRAINT "undos_status" CHECK ("status" in ('pending', 'done', 'failed'))
);
--> statement-breakpoint
CREATE TABLE "versions" (
	"model" text NOT NULL,
	"version" integer NOT NULL,
	"predictor" text NOT NULL,
	"run_id" text,
	"stage" text,
	"status" text NOT NULL,
	"metrics" jsonb NOT NULL,
	"evaluation" text,
	"owner" text,
	"description" text,
	"tags" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"status_reason" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "versions_model_version_pk" PRIMARY KEY("model","version"),
	CONSTRAINT "versions_status" CHECK ("status" in ('candidate', 'approved', 'rolled_back', 'retired'))
);
--> statement-breakpoint
ALTER TABLE "aliases" ADD CONSTRAINT "aliases_model_models_name_fk" FOREIGN KEY ("model") REFERENCES "public"."models"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "aliases" ADD CONSTRAINT "aliases_version" FOREIGN KEY ("model","version") REFERENCES "public"."versions"("model","version") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "decisions" ADD CONSTRAINT "decisions_gate" FOREIGN KEY ("run_id","gate") REFERENCES "public"."approvals"("run_id","gate") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "metrics" ADD CONSTRAINT "metrics_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "rollouts" ADD CONSTRAINT "rollouts_endpoint_endpoints_name_fk" FOREIGN KEY ("endpoint") REFERENCES "public"."endpoints"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "routes" ADD CONSTRAINT "routes_endpoint_endpoints_name_fk" FOREIGN KEY ("endpoint") REFERENCES "public"."endpoints"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "run_params" ADD CONSTRAINT "run_params_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "run_tags" ADD CONSTRAINT "run_tags_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "runs" ADD CONSTRAINT "runs_experiment_id_experiments_id_fk" FOREIGN KEY ("experiment_id") REFERENCES "public"."experiments"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "server_routes" ADD CONSTRAINT "server_routes_server_id_servers_id_fk" FOREIGN KEY ("server_id") REFERENCES "public"."servers"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "stages" ADD CONSTRAINT "stages_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "versions" ADD CONSTRAINT "versions_model_models_name_fk" FOREIGN KEY ("model") REFERENCES "public"."models"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "approvals_requested" ON "approvals" USING btree ("requested_at");--> statement-breakpoint
CREATE INDEX "datasets_name" ON "datasets" USING btree ("name","seq");--> statement-breakpoint
CREATE INDEX "datasets_seq" ON "datasets" USING btree ("seq");--> statement-breakpoint
CREATE INDEX "metrics_history" ON "metrics" USING btree ("run_id","key","step");--> statement-breakpoint
CREATE UNIQUE INDEX "retrainings_once" ON "retrainings" USING btree ("pipeline","key");--> statement-breakpoint
CREATE INDEX "rollouts_endpoint" ON "rollouts" USING btree ("endpoint","seq");--> statement-breakpoint
CREATE UNIQUE INDEX "rollouts_once" ON "rollouts" USING btree ("run_id","stage","endpoint");--> statement-breakpoint
CREATE UNIQUE INDEX "runs_workflow" ON "runs" USING btree ("workflow_id","temporal_run_id");--> statement-breakpoint
CREATE INDEX "runs_seq" ON "runs" USING btree ("seq");--> statement-breakpoint
CREATE INDEX "runs_pipeline" ON "runs" USING btree ("pipeline","seq");--> statement-breakpoint
CREATE INDEX "runs_open" ON "runs" USING btree ("pipeline","seq") WHERE status in ('waiting', 'running');--> statement-breakpoint
CREATE INDEX "runs_experiment" ON "runs" USING btree ("experiment_id","seq");--> statement-breakpoint
CREATE INDEX "server_routes_endpoint" ON "server_routes" USING btree ("endpoint");--> statement-breakpoint
CREATE INDEX "stages_cache" ON "stages" USING btree ("fingerprint","ended_at") WHERE status = 'completed' and cached_from is null;--> statement-breakpoint
CREATE INDEX "stages_nearest" ON "stages" USING btree ("pipeline","name","ended_at") WHERE status = 'completed';--> statement-breakpoint
CREATE UNIQUE INDEX "undos_once" ON "undos" USING btree ("run_id","kind","key");--> statement-breakpoint
CREATE INDEX "undos_open" ON "undos" USING btree ("run_id") WHERE status <> 'done';--> statement-breakpoint
CREATE UNIQUE INDEX "versions_once" ON "versions" USING btree ("run_id","stage","model");--> statement-breakpoint
CREATE INDEX "versions_predictor" ON "versions" USING btree ("predictor");