-- What MLflow's clients see of runs, kept by the database itself: whoever writes a run, a stage or a metric.

-- MLflow's default experiment has the id 0; the name may be taken by a pipeline.
INSERT INTO experiments (id, name) VALUES (0, CASE WHEN EXISTS (SELECT FROM experiments WHERE name = 'Default') THEN 'Default experiment' ELSE 'Default' END);
--> statement-breakpoint
-- A run of a pipeline stands in the experiment of its pipeline.
CREATE FUNCTION millrace_run_experiment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  SELECT id INTO NEW.experiment_id FROM experiments WHERE pipeline = NEW.pipeline;
  IF NEW.experiment_id IS NULL THEN
    INSERT INTO experiments AS e (name, pipeline) VALUES (NEW.pipeline, NEW.pipeline)
    ON CONFLICT (name) DO UPDATE SET pipeline = coalesce(e.pipeline, excluded.pipeline)
    RETURNING id INTO NEW.experiment_id;
  END IF;
  -- A pipeline that runs again is not deleted, whatever a client did to its experiment.
  UPDATE experiments SET lifecycle_stage = 'active', updated_at = now() WHERE id = NEW.experiment_id AND lifecycle_stage <> 'active';
  NEW.user_id := coalesce(NEW.user_id, NEW.trigger ->> 'by');
  RETURN NEW;
END
$$;
--> statement-breakpoint
CREATE TRIGGER runs_experiment BEFORE INSERT ON runs FOR EACH ROW WHEN (NEW.experiment_id IS NULL) EXECUTE FUNCTION millrace_run_experiment();
--> statement-breakpoint
-- The leaves of a JSON object, named by their path: {"a": {"b": 1}} gives a.b = 1. Lists stay as they are written.
CREATE FUNCTION millrace_leaves(prefix text, p jsonb) RETURNS TABLE (key text, value text) LANGUAGE sql IMMUTABLE AS $$
  WITH RECURSIVE walk (path, item) AS (
    SELECT prefix || e.key, e.value FROM jsonb_each(CASE WHEN jsonb_typeof(p) = 'object' THEN p ELSE '{}' END) AS e
    UNION ALL
    SELECT walk.path || '.' || e.key, e.value FROM walk, jsonb_each(CASE WHEN jsonb_typeof(walk.item) = 'object' THEN walk.item ELSE '{}' END) AS e
  )
  SELECT left(path, 250), left(max(item #>> '{}'), 6000) FROM walk WHERE jsonb_typeof(item) NOT IN ('object', 'null') GROUP BY left(path, 250)
$$;
--> statement-breakpoint
CREATE FUNCTION millrace_run_shown() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO run_params (run_id, key, value) SELECT NEW.id, key, value FROM millrace_leaves('', NEW.params) ON CONFLICT DO NOTHING;
  END IF;
  INSERT INTO run_tags (run_id, key, value)
  SELECT NEW.id, t.key, t.value
  FROM (VALUES ('mlflow.source.type', 'JOB'), ('mlflow.source.name', NEW.pipeline), ('mlflow.user', NEW.user_id), ('mlflow.runName', NEW.workflow_id),
               ('mlflow.source.git.commit', NEW.git_commit), ('mlflow.source.git.repoURL', NEW.git_remote),
               ('millrace.workflowId', NEW.workflow_id), ('millrace.retryOf', NEW.retry_of)) AS t (key, value)
  WHERE t.value IS NOT NULL
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER runs_shown AFTER INSERT OR UPDATE OF git_commit ON runs FOR EACH ROW WHEN (NEW.workflow_id IS NOT NULL) EXECUTE FUNCTION millrace_run_shown();
--> statement-breakpoint
-- A stage's parameters are parameters of its run, as STAGE/PATH.
CREATE FUNCTION millrace_stage_shown() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO run_params AS p (run_id, key, value) SELECT NEW.run_id, key, value FROM millrace_leaves(NEW.name || '/', NEW.input)
  ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value WHERE p.value <> excluded.value;
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER stages_shown AFTER INSERT OR UPDATE OF input ON stages FOR EACH ROW WHEN (NEW.input IS NOT NULL) EXECUTE FUNCTION millrace_stage_shown();
--> statement-breakpoint
CREATE FUNCTION millrace_keep_latest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO latest_metrics AS l (run_id, name, stage, key, value, step, at)
  SELECT DISTINCT ON (run_id, name) run_id, CASE stage WHEN '' THEN key ELSE stage || '/' || key END AS name, stage, key, value, step, at
  FROM added ORDER BY run_id, name, step DESC, at DESC, value DESC
  ON CONFLICT (run_id, name) DO UPDATE SET stage = excluded.stage, key = excluded.key, value = excluded.value, step = excluded.step, at = excluded.at
  WHERE (excluded.step, excluded.at, excluded.value) > (l.step, l.at, l.value);
  RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER metrics_latest AFTER INSERT ON metrics REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION millrace_keep_latest();
--> statement-breakpoint
-- All that a client logs in one call, in one round trip: everything or nothing. A parameter does not change (P0M01), a run
-- must be there (P0M02) and not deleted (P0M03).
CREATE FUNCTION millrace_log_batch(p_run text, p_stage text, m_keys text[], m_values double precision[], m_steps bigint[], m_ats timestamptz[],
                                   p_keys text[], p_values text[], t_keys text[], t_values text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  life text;
  taken record;
BEGIN
  SELECT lifecycle_stage INTO life FROM runs WHERE id = p_run;
  IF life IS NULL THEN RAISE EXCEPTION USING ERRCODE = 'P0M02', MESSAGE = 'no such run'; END IF;
  IF life <> 'active' THEN RAISE EXCEPTION USING ERRCODE = 'P0M03', MESSAGE = 'the run is deleted'; END IF;
  IF cardinality(p_keys) > 0 THEN
    INSERT INTO run_params (run_id, key, value) SELECT p_run, key, value FROM unnest(p_keys, p_values) AS p (key, value) ORDER BY key ON CONFLICT DO NOTHING;
    SELECT r.key, r.value AS old, p.value AS new INTO taken
    FROM unnest(p_keys, p_values) AS p (key, value) JOIN run_params AS r ON r.run_id = p_run AND r.key = p.key WHERE r.value <> p.value LIMIT 1;
    IF taken.key IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'P0M01', MESSAGE = 'a parameter has another value', DETAIL = jsonb_build_object('key', taken.key, 'old', taken.old, 'new', taken.new);
    END IF;
  END IF;
  IF cardinality(m_keys) > 0 THEN
    INSERT INTO metrics (run_id, stage, key, step, value, at)
    SELECT p_run, p_stage, key, step, value, at FROM unnest(m_keys, m_values, m_steps, m_ats) AS m (key, value, step, at)
    ON CONFLICT DO NOTHING;
  END IF;
  IF cardinality(t_keys) > 0 THEN
    INSERT INTO run_tags (run_id, key, value)
    SELECT DISTINCT ON (key) p_run, key, value FROM unnest(t_keys, t_values) WITH ORDINALITY AS t (key, value, place) ORDER BY key, place DESC
    ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value;
    IF 'mlflow.runName' = ANY (t_keys) THEN
      UPDATE runs SET name = (SELECT value FROM run_tags WHERE run_id = p_run AND key = 'mlflow.runName') WHERE id = p_run;
    END IF;
  END IF;
END
$$;
--> statement-breakpoint
-- What stands in the store already is shown as well.
INSERT INTO experiments AS e (name, pipeline) SELECT DISTINCT pipeline, pipeline FROM runs WHERE experiment_id IS NULL
ON CONFLICT (name) DO UPDATE SET pipeline = coalesce(e.pipeline, excluded.pipeline);
--> statement-breakpoint
UPDATE runs SET experiment_id = (SELECT id FROM experiments AS e WHERE e.name = runs.pipeline), user_id = trigger ->> 'by' WHERE experiment_id IS NULL;
--> statement-breakpoint
INSERT INTO run_params (run_id, key, value) SELECT r.id, l.key, l.value FROM runs AS r, millrace_leaves('', r.params) AS l WHERE r.workflow_id IS NOT NULL ON CONFLICT DO NOTHING;
--> statement-breakpoint
INSERT INTO run_params (run_id, key, value) SELECT s.run_id, l.key, l.value FROM stages AS s, millrace_leaves(s.name || '/', s.input) AS l ON CONFLICT DO NOTHING;
--> statement-breakpoint
INSERT INTO run_tags (run_id, key, value)
SELECT r.id, t.key, t.value FROM runs AS r, LATERAL (VALUES ('mlflow.source.type', 'JOB'), ('mlflow.source.name', r.pipeline), ('mlflow.user', r.user_id),
  ('mlflow.runName', r.workflow_id), ('mlflow.source.git.commit', r.git_commit), ('mlflow.source.git.repoURL', r.git_remote),
  ('millrace.workflowId', r.workflow_id), ('millrace.retryOf', r.retry_of)) AS t (key, value)
WHERE r.workflow_id IS NOT NULL AND t.value IS NOT NULL ON CONFLICT DO NOTHING;
--> statement-breakpoint
INSERT INTO latest_metrics (run_id, name, stage, key, value, step, at)
SELECT DISTINCT ON (run_id, name) run_id, CASE stage WHEN '' THEN key ELSE stage || '/' || key END AS name, stage, key, value, step, at
FROM metrics ORDER BY run_id, name, step DESC, at DESC, value DESC;
