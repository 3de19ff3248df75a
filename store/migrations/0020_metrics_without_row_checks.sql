ALTER TABLE "latest_metrics" DROP CONSTRAINT "latest_metrics_run_id_runs_id_fk";
--> statement-breakpoint
ALTER TABLE "metrics" DROP CONSTRAINT "metrics_run_id_runs_id_fk";
--> statement-breakpoint
-- A foreign key looks at the run once for each point, which is half of what a batch of 1,000 costs: here it is looked at once a statement.
CREATE OR REPLACE FUNCTION millrace_keep_latest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM runs WHERE id IN (SELECT run_id FROM added) FOR KEY SHARE;
  IF EXISTS (SELECT FROM (SELECT DISTINCT run_id FROM added) AS a WHERE NOT EXISTS (SELECT FROM runs WHERE id = a.run_id)) THEN
    RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', MESSAGE = 'a metric refers to a run that does not exist';
  END IF;
  INSERT INTO latest_metrics AS l (run_id, name, stage, key, value, step, at)
  SELECT DISTINCT ON (run_id, name) run_id, CASE stage WHEN '' THEN key ELSE stage || '/' || key END AS name, stage, key, value, step, at
  FROM added ORDER BY run_id, name, step DESC, at DESC, value DESC
  ON CONFLICT (run_id, name) DO UPDATE SET stage = excluded.stage, key = excluded.key, value = excluded.value, step = excluded.step, at = excluded.at
  WHERE (excluded.step, excluded.at, excluded.value) > (l.step, l.at, l.value);
  RETURN NULL;
END
$$;
--> statement-breakpoint
-- What the foreign keys did when a run was removed.
CREATE FUNCTION millrace_forget_metrics() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM metrics USING gone WHERE metrics.run_id = gone.id;
  DELETE FROM latest_metrics USING gone WHERE latest_metrics.run_id = gone.id;
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER runs_metrics AFTER DELETE ON runs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION millrace_forget_metrics();
