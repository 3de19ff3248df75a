CREATE TABLE "feedback" (
	"endpoint" text NOT NULL,
	"request_id" text NOT NULL,
	"row" integer NOT NULL,
	"name" text NOT NULL,
	"value" jsonb NOT NULL,
	"received_at" timestamp (3) with time zone NOT NULL,
	"status" text DEFAULT 'waiting' NOT NULL,
	"tries" integer DEFAULT 0 NOT NULL,
	"next_try_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"model" text,
	"version" integer,
	"predicted_at" timestamp (3) with time zone,
	CONSTRAINT "feedback_endpoint_request_id_row_name_pk" PRIMARY KEY("endpoint","request_id","row","name"),
	CONSTRAINT "feedback_status" CHECK ("status" in ('waiting', 'joined', 'unknown'))
);
--> statement-breakpoint
CREATE TABLE "log_readers" (
	"file" text PRIMARY KEY NOT NULL,
	"endpoint" text NOT NULL,
	"offset_bytes" bigint NOT NULL,
	"duplicates" bigint DEFAULT 0 NOT NULL,
	"read_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE INDEX "feedback_due" ON "feedback" USING btree ("next_try_at") WHERE status = 'waiting';--> statement-breakpoint
CREATE INDEX "feedback_received" ON "feedback" USING btree ("received_at");