CREATE TABLE "feature_sets" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"view" text NOT NULL,
	"version" integer NOT NULL,
	"snapshot" text NOT NULL,
	"as_of" timestamp (3) with time zone NOT NULL,
	"entities" bigint DEFAULT 0 NOT NULL,
	"status" text DEFAULT 'writing' NOT NULL,
	"epoch" bigint,
	"run_id" text NOT NULL,
	"stage" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"published_at" timestamp (3) with time zone,
	CONSTRAINT "feature_sets_status" CHECK ("status" in ('writing', 'published', 'undone', 'removed'))
);
--> statement-breakpoint
CREATE TABLE "feature_values" (
	"set" bigint NOT NULL,
	"key" text NOT NULL,
	"at_ms" bigint NOT NULL,
	"values" text NOT NULL,
	CONSTRAINT "feature_values_set_key_pk" PRIMARY KEY("set","key")
);
--> statement-breakpoint
CREATE TABLE "feature_views" (
	"name" text NOT NULL,
	"version" integer NOT NULL,
	"definition" text NOT NULL,
	"view" jsonb NOT NULL,
	"current" bigint,
	"epoch" bigint DEFAULT 0 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "feature_views_name_version_pk" PRIMARY KEY("name","version")
);
--> statement-breakpoint
CREATE TABLE "version_features" (
	"model" text NOT NULL,
	"version" integer NOT NULL,
	"view" text NOT NULL,
	"definition" text NOT NULL,
	CONSTRAINT "version_features_model_version_view_definition_pk" PRIMARY KEY("model","version","view","definition")
);
--> statement-breakpoint
ALTER TABLE "feature_sets" ADD CONSTRAINT "feature_sets_view" FOREIGN KEY ("view","version") REFERENCES "public"."feature_views"("name","version") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "version_features" ADD CONSTRAINT "version_features_version" FOREIGN KEY ("model","version") REFERENCES "public"."versions"("model","version") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "feature_sets_of" ON "feature_sets" USING btree ("view","version","status");--> statement-breakpoint
CREATE UNIQUE INDEX "feature_views_definition" ON "feature_views" USING btree ("name","definition");--> statement-breakpoint
CREATE INDEX "version_features_view" ON "version_features" USING btree ("view");