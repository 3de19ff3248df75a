ALTER TABLE "route_history" ADD COLUMN "standby" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "route_history" ADD COLUMN "reason" text;--> statement-breakpoint
ALTER TABLE "route_history" ADD COLUMN "by" text;--> statement-breakpoint
ALTER TABLE "routes" ADD COLUMN "standby" jsonb DEFAULT '[]'::jsonb NOT NULL;