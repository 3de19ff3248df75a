CREATE TABLE "challenger_breaks" (
	"server" text NOT NULL,
	"endpoint" text NOT NULL,
	"model" text NOT NULL,
	"version" integer NOT NULL,
	"epoch" bigint NOT NULL,
	"at" timestamp (3) with time zone NOT NULL,
	"reason" text NOT NULL,
	"figures" jsonb NOT NULL,
	CONSTRAINT "challenger_breaks_endpoint_model_version_server_epoch_pk" PRIMARY KEY("endpoint","model","version","server","epoch")
);
--> statement-breakpoint
CREATE TABLE "serving_outcomes" (
	"endpoint" text NOT NULL,
	"model" text NOT NULL,
	"version" integer NOT NULL,
	"from" timestamp (3) with time zone NOT NULL,
	"metric" text NOT NULL,
	"source" text NOT NULL,
	"n" bigint NOT NULL,
	"sum" double precision NOT NULL,
	"sum_squares" double precision NOT NULL,
	"min" double precision NOT NULL,
	"max" double precision NOT NULL,
	CONSTRAINT "serving_outcomes_endpoint_metric_from_model_version_source_pk" PRIMARY KEY("endpoint","metric","from","model","version","source")
);
--> statement-breakpoint
ALTER TABLE "serving_stats" ADD COLUMN "latency" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "serving_stats" ADD COLUMN "labels" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "serving_stats" ADD COLUMN "outputs" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "serving_stats" ADD COLUMN "compared" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "serving_stats" ADD COLUMN "equal" bigint DEFAULT 0 NOT NULL;