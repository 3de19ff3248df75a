CREATE TABLE "mirror_feed" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"run_id" text NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"names" text[],
	"steps" bigint[],
	"values" double precision[],
	"ats" timestamp (3) with time zone[]
);
--> statement-breakpoint
CREATE TABLE "mirrored_runs" (
	"run_id" text PRIMARY KEY NOT NULL,
	"seq" bigint NOT NULL,
	"outside_id" text,
	"asked_at" timestamp (3) with time zone,
	"facts_sent" text,
	"tags_sent" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"whole" boolean DEFAULT false NOT NULL,
	"whole_after" jsonb,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"last_error" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "mlflow_mirror" (
	"id" integer PRIMARY KEY DEFAULT 1 NOT NULL,
	"target" text NOT NULL,
	"queued" boolean DEFAULT false NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"failing_since" timestamp (3) with time zone,
	"last_error" text,
	CONSTRAINT "mlflow_mirror_one" CHECK (id = 1)
);
--> statement-breakpoint
ALTER TABLE "mirrored_runs" ADD CONSTRAINT "mirrored_runs_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "mirror_feed_run" ON "mirror_feed" USING btree ("run_id","id");--> statement-breakpoint
CREATE INDEX "mirrored_runs_whole" ON "mirrored_runs" USING btree ("seq") WHERE whole;--> statement-breakpoint
CREATE INDEX "mirrored_runs_refused" ON "mirrored_runs" USING btree ("next_at") WHERE last_error is not null;