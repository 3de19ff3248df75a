CREATE TABLE "prediction_answers" (
	"set" bigint NOT NULL,
	"key" text NOT NULL,
	"answer" text NOT NULL,
	CONSTRAINT "prediction_answers_set_key_pk" PRIMARY KEY("set","key")
);
--> statement-breakpoint
CREATE TABLE "prediction_sets" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"name" text NOT NULL,
	"snapshot" text NOT NULL,
	"model" text NOT NULL,
	"version" integer NOT NULL,
	"predictor" text NOT NULL,
	"columns" jsonb NOT NULL,
	"rows" bigint DEFAULT 0 NOT NULL,
	"status" text DEFAULT 'writing' NOT NULL,
	"epoch" bigint,
	"run_id" text NOT NULL,
	"stage" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"published_at" timestamp (3) with time zone,
	CONSTRAINT "prediction_sets_status" CHECK ("status" in ('writing', 'published', 'undone', 'removing', 'removed'))
);
--> statement-breakpoint
CREATE TABLE "prediction_targets" (
	"kind" text NOT NULL,
	"name" text NOT NULL,
	"current" bigint,
	"epoch" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "prediction_targets_kind_name_pk" PRIMARY KEY("kind","name"),
	CONSTRAINT "prediction_targets_kind" CHECK ("kind" in ('table', 'endpoint'))
);
--> statement-breakpoint
ALTER TABLE "prediction_sets" ADD CONSTRAINT "prediction_sets_target" FOREIGN KEY ("kind","name") REFERENCES "public"."prediction_targets"("kind","name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "prediction_sets_of" ON "prediction_sets" USING btree ("kind","name","status");