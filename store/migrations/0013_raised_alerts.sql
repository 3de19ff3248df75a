CREATE TABLE "alert_silences" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"kind" text,
	"endpoint" text,
	"pipeline" text,
	"subject" text,
	"from" timestamp (3) with time zone NOT NULL,
	"until" timestamp (3) with time zone NOT NULL,
	"by" text NOT NULL,
	"reason" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"ended_at" timestamp (3) with time zone,
	"ended_by" text
);
--> statement-breakpoint
CREATE TABLE "raised_alerts" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"identity" text NOT NULL,
	"kind" text NOT NULL,
	"endpoint" text,
	"pipeline" text,
	"subject" text NOT NULL,
	"severity" text NOT NULL,
	"what" text NOT NULL,
	"since" timestamp (3) with time zone NOT NULL,
	"until" timestamp (3) with time zone,
	"against" text,
	"sure" text,
	"look" text NOT NULL,
	"command" text NOT NULL,
	"group_key" text NOT NULL,
	"event" boolean NOT NULL,
	"status" text DEFAULT 'open' NOT NULL,
	"raised_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"last_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"due_since" timestamp (3) with time zone,
	"told_at" timestamp (3) with time zone,
	"tellings" integer DEFAULT 0 NOT NULL,
	"acknowledged_at" timestamp (3) with time zone,
	"acknowledged_by" text,
	"comment" text,
	"resolved_at" timestamp (3) with time zone,
	"recovery_due" boolean DEFAULT false NOT NULL,
	CONSTRAINT "raised_alerts_kind" CHECK ("kind" in ('approval', 'labels', 'rollout', 'drift', 'quality', 'skew', 'data', 'system', 'retraining', 'experiment')),
	CONSTRAINT "raised_alerts_severity" CHECK ("severity" in ('info', 'warning', 'critical')),
	CONSTRAINT "raised_alerts_status" CHECK ("status" in ('open', 'acknowledged', 'resolved'))
);
--> statement-breakpoint
ALTER TABLE "alerts" ADD COLUMN "alert_ids" bigint[] DEFAULT '{}' NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "raised_alerts_open" ON "raised_alerts" USING btree ("identity") WHERE status <> 'resolved';--> statement-breakpoint
CREATE INDEX "raised_alerts_due" ON "raised_alerts" USING btree ("id") WHERE status <> 'resolved' or recovery_due;--> statement-breakpoint
CREATE INDEX "raised_alerts_endpoint" ON "raised_alerts" USING btree ("endpoint","id");