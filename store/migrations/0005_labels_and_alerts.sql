CREATE TABLE "alert_deliveries" (
	"alert" bigint NOT NULL,
	"channel" text NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"delivered_at" timestamp (3) with time zone,
	"gave_up_at" timestamp (3) with time zone,
	"last_error" text,
	CONSTRAINT "alert_deliveries_alert_channel_pk" PRIMARY KEY("alert","channel")
);
--> statement-breakpoint
CREATE TABLE "alerts" (
	"seq" bigserial PRIMARY KEY NOT NULL,
	"key" text NOT NULL,
	"message" jsonb NOT NULL,
	"spread" boolean DEFAULT false NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "alerts_key_unique" UNIQUE("key")
);
--> statement-breakpoint
CREATE TABLE "label_answers" (
	"item_id" text NOT NULL,
	"by" text NOT NULL,
	"label" text,
	"comment" text,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "label_answers_item_id_by_pk" PRIMARY KEY("item_id","by")
);
--> statement-breakpoint
CREATE TABLE "label_items" (
	"id" text PRIMARY KEY NOT NULL,
	"seq" bigserial NOT NULL,
	"queue" text NOT NULL,
	"edition" integer NOT NULL,
	"key" text NOT NULL,
	"shown" jsonb NOT NULL,
	"priority" double precision DEFAULT 0 NOT NULL,
	"needed" integer NOT NULL,
	"status" text DEFAULT 'open' NOT NULL,
	"label" text,
	"flagged" jsonb,
	"fed_back_at" timestamp (3) with time zone,
	"held_by" text,
	"held_until" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"settled_at" timestamp (3) with time zone,
	CONSTRAINT "label_items_status" CHECK ("status" in ('open', 'settled', 'withdrawn'))
);
--> statement-breakpoint
CREATE TABLE "label_queues" (
	"name" text PRIMARY KEY NOT NULL,
	"question" text,
	"classes" jsonb NOT NULL,
	"labellers" integer NOT NULL,
	"break_ties" boolean NOT NULL,
	"edition" integer DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "label_request_items" (
	"request_id" text NOT NULL,
	"item_id" text NOT NULL,
	CONSTRAINT "label_request_items_request_id_item_id_pk" PRIMARY KEY("request_id","item_id")
);
--> statement-breakpoint
CREATE TABLE "label_requests" (
	"id" text PRIMARY KEY NOT NULL,
	"queue" text NOT NULL,
	"run_id" text NOT NULL,
	"stage" text NOT NULL,
	"workflow_id" text,
	"status" text DEFAULT 'open' NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"closed_at" timestamp (3) with time zone,
	"told_at" timestamp (3) with time zone,
	CONSTRAINT "label_requests_status" CHECK ("status" in ('open', 'answered', 'expired', 'cancelled'))
);
--> statement-breakpoint
ALTER TABLE "alert_deliveries" ADD CONSTRAINT "alert_deliveries_alert_alerts_seq_fk" FOREIGN KEY ("alert") REFERENCES "public"."alerts"("seq") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "label_answers" ADD CONSTRAINT "label_answers_item_id_label_items_id_fk" FOREIGN KEY ("item_id") REFERENCES "public"."label_items"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "label_items" ADD CONSTRAINT "label_items_queue_label_queues_name_fk" FOREIGN KEY ("queue") REFERENCES "public"."label_queues"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "label_request_items" ADD CONSTRAINT "label_request_items_request_id_label_requests_id_fk" FOREIGN KEY ("request_id") REFERENCES "public"."label_requests"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "label_request_items" ADD CONSTRAINT "label_request_items_item_id_label_items_id_fk" FOREIGN KEY ("item_id") REFERENCES "public"."label_items"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "label_requests" ADD CONSTRAINT "label_requests_queue_label_queues_name_fk" FOREIGN KEY ("queue") REFERENCES "public"."label_queues"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "alert_deliveries_due" ON "alert_deliveries" USING btree ("next_at") WHERE delivered_at is null and gave_up_at is null;--> statement-breakpoint
CREATE INDEX "alerts_unspread" ON "alerts" USING btree ("seq") WHERE not spread;--> statement-breakpoint
CREATE UNIQUE INDEX "label_items_once" ON "label_items" USING btree ("queue","edition","key");--> statement-breakpoint
CREATE INDEX "label_items_next" ON "label_items" USING btree ("queue","priority" DESC NULLS LAST,"seq") WHERE status = 'open';--> statement-breakpoint
CREATE INDEX "label_items_feedback" ON "label_items" USING btree ("settled_at") WHERE flagged is not null and fed_back_at is null and label is not null;--> statement-breakpoint
CREATE INDEX "label_request_items_item" ON "label_request_items" USING btree ("item_id");--> statement-breakpoint
CREATE INDEX "label_requests_open" ON "label_requests" USING btree ("run_id") WHERE status = 'open';--> statement-breakpoint
CREATE INDEX "label_requests_queue" ON "label_requests" USING btree ("queue");