CREATE TABLE "retrain_asks" (
	"pipeline" text NOT NULL,
	"key" text NOT NULL,
	"seq" bigserial NOT NULL,
	"name" text NOT NULL,
	"request" jsonb NOT NULL,
	"noticed_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"told_at" timestamp (3) with time zone,
	CONSTRAINT "retrain_asks_pipeline_key_pk" PRIMARY KEY("pipeline","key")
);
--> statement-breakpoint
CREATE TABLE "retrain_trigger_items" (
	"pipeline" text NOT NULL,
	"name" text NOT NULL,
	"item" text NOT NULL,
	CONSTRAINT "retrain_trigger_items_pipeline_name_item_pk" PRIMARY KEY("pipeline","name","item")
);
--> statement-breakpoint
CREATE TABLE "retrain_triggers" (
	"pipeline" text NOT NULL,
	"name" text NOT NULL,
	"trigger" jsonb NOT NULL,
	"state" jsonb,
	"epoch" bigint DEFAULT 0 NOT NULL,
	"armed_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"looked_at" timestamp (3) with time zone,
	"problem" text,
	CONSTRAINT "retrain_triggers_pipeline_name_pk" PRIMARY KEY("pipeline","name")
);
--> statement-breakpoint
ALTER TABLE "retrain_trigger_items" ADD CONSTRAINT "retrain_trigger_items_of" FOREIGN KEY ("pipeline","name") REFERENCES "public"."retrain_triggers"("pipeline","name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "retrain_asks_untold" ON "retrain_asks" USING btree ("seq") WHERE told_at is null;