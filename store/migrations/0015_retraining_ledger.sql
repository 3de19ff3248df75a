CREATE TABLE "experiment_requests" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"pipeline" text NOT NULL,
	"workflow_id" text NOT NULL,
	"because" text NOT NULL,
	"evidence" jsonb NOT NULL,
	"tune" jsonb,
	"opened_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"closed_at" timestamp (3) with time zone,
	"closed_by" text,
	"comment" text,
	CONSTRAINT "experiment_requests_workflowId_unique" UNIQUE("workflow_id")
);
--> statement-breakpoint
CREATE TABLE "retrainings" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"pipeline" text NOT NULL,
	"key" text NOT NULL,
	"number" integer NOT NULL,
	"trigger_key" text,
	"source" text NOT NULL,
	"reason" text NOT NULL,
	"condition" text,
	"evidence" jsonb,
	"at" timestamp (3) with time zone NOT NULL,
	"received_at" timestamp (3) with time zone NOT NULL,
	"times" integer NOT NULL,
	"fate" text NOT NULL,
	"because" text NOT NULL,
	"held_by" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"workflow_id" text,
	"run_id" text,
	"merged_into" integer,
	"settled_at" timestamp (3) with time zone,
	"timing" jsonb,
	"revision" integer NOT NULL,
	CONSTRAINT "retrainings_fate" CHECK ("fate" in ('waiting', 'running', 'serving', 'completed', 'rejected', 'failed', 'cancelled', 'refused', 'merged'))
);
--> statement-breakpoint
CREATE UNIQUE INDEX "experiment_requests_open" ON "experiment_requests" USING btree ("pipeline") WHERE closed_at is null;--> statement-breakpoint
CREATE UNIQUE INDEX "retrainings_once" ON "retrainings" USING btree ("pipeline","key");--> statement-breakpoint
CREATE INDEX "retrainings_run" ON "retrainings" USING btree ("pipeline","workflow_id");