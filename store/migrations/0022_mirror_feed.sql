-- What changes of runs is noted for the mirror, in the transaction of the change. The triggers are off until a mirror is set: they cost
-- nothing then, and are turned on under a lock that waits for those who write, so that nothing falls between.
CREATE FUNCTION millrace_feed_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO mirror_feed (run_id) VALUES (NEW.id);
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER runs_mirrored AFTER INSERT OR UPDATE OF status, name, user_id, lifecycle_stage, started_at, ended_at ON runs FOR EACH ROW EXECUTE FUNCTION millrace_feed_run();
--> statement-breakpoint
CREATE FUNCTION millrace_feed_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO mirror_feed (run_id) SELECT DISTINCT run_id FROM changed;
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER run_params_mirrored_new AFTER INSERT ON run_params REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION millrace_feed_facts();
--> statement-breakpoint
CREATE TRIGGER run_params_mirrored_other AFTER UPDATE ON run_params REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION millrace_feed_facts();
--> statement-breakpoint
CREATE TRIGGER run_tags_mirrored_new AFTER INSERT ON run_tags REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION millrace_feed_facts();
--> statement-breakpoint
CREATE TRIGGER run_tags_mirrored_other AFTER UPDATE ON run_tags REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION millrace_feed_facts();
--> statement-breakpoint
CREATE TRIGGER run_tags_mirrored_gone AFTER DELETE ON run_tags REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION millrace_feed_facts();
--> statement-breakpoint
CREATE FUNCTION millrace_feed_points() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO mirror_feed (run_id, names, steps, "values", ats)
  SELECT run_id, array_agg(CASE stage WHEN '' THEN key ELSE stage || '/' || key END), array_agg(step), array_agg(value), array_agg(at) FROM changed GROUP BY run_id;
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER metrics_mirrored AFTER INSERT ON metrics REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION millrace_feed_points();
--> statement-breakpoint
ALTER TABLE runs DISABLE TRIGGER runs_mirrored;
--> statement-breakpoint
ALTER TABLE run_params DISABLE TRIGGER run_params_mirrored_new;
--> statement-breakpoint
ALTER TABLE run_params DISABLE TRIGGER run_params_mirrored_other;
--> statement-breakpoint
ALTER TABLE run_tags DISABLE TRIGGER run_tags_mirrored_new;
--> statement-breakpoint
ALTER TABLE run_tags DISABLE TRIGGER run_tags_mirrored_other;
--> statement-breakpoint
ALTER TABLE run_tags DISABLE TRIGGER run_tags_mirrored_gone;
--> statement-breakpoint
ALTER TABLE metrics DISABLE TRIGGER metrics_mirrored;
