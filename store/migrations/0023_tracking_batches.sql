-- Runs are looked for by their ids, whatever the planner thinks of the new points: with many runs it read all of them.
CREATE OR REPLACE FUNCTION millrace_keep_latest() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  ids text[];
  there integer;
BEGIN
  SELECT array_agg(DISTINCT run_id) INTO ids FROM added;
  IF ids IS NULL THEN RETURN NULL; END IF;
  PERFORM FROM runs WHERE id = ANY (ids) FOR KEY SHARE;
  GET DIAGNOSTICS there = ROW_COUNT;
  IF there < cardinality(ids) THEN
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
DROP FUNCTION millrace_log_batch(text, text, text[], double precision[], bigint[], timestamptz[], text[], text[], text[], text[]);
--> statement-breakpoint
-- As before, with the times of points in milliseconds. Many points are taken to be new, which is a third cheaper than asking for each;
-- where one is not, they are written again by asking.
CREATE FUNCTION millrace_log_batch(p_run text, p_stage text, m_keys text[], m_values double precision[], m_steps bigint[], m_ms bigint[],
                                   p_keys text[], p_values text[], t_keys text[], t_values text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  life text;
  taken record;
  ask boolean := cardinality(m_keys) < 100;
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
    IF NOT ask THEN
      BEGIN
        -- whole seconds first: a product of an interval is exact only up to 2^53 microseconds
        INSERT INTO metrics (run_id, stage, key, step, value, at)
        SELECT p_run, p_stage, key, step, value, 'epoch'::timestamptz + (ms / 1000) * interval '1 second' + (ms % 1000) * interval '1 millisecond'
        FROM unnest(m_keys, m_values, m_steps, m_ms) AS m (key, value, step, ms);
      EXCEPTION WHEN unique_violation THEN
        ask := true;
      END;
    END IF;
    IF ask THEN
      INSERT INTO metrics (run_id, stage, key, step, value, at)
      SELECT p_run, p_stage, key, step, value, 'epoch'::timestamptz + (ms / 1000) * interval '1 second' + (ms % 1000) * interval '1 millisecond'
      FROM unnest(m_keys, m_values, m_steps, m_ms) AS m (key, value, step, ms)
      ON CONFLICT DO NOTHING;
    END IF;
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
