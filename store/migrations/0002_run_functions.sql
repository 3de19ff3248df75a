-- A run's begin and end, each one round trip: what every run pays for, however short it is.
CREATE FUNCTION millrace_begin_run(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  own runs%ROWTYPE;
  running integer;
  ahead integer;
BEGIN
  -- Runs of one pipeline are admitted one after the other, so that two cannot take the last place.
  PERFORM pg_advisory_xact_lock(7432002, hashtext(p ->> 'pipeline'));
  INSERT INTO runs (id, workflow_id, temporal_run_id, pipeline, build_id, status, params, trigger, purpose, retry_of, git_remote, git_commit, git_clean)
  VALUES (p ->> 'runId', p ->> 'workflowId', p ->> 'temporalRunId', p ->> 'pipeline', p ->> 'buildId', 'waiting', coalesce(p -> 'params', '{}'),
          p -> 'trigger', p -> 'purpose', p ->> 'retryOf', p #>> '{git,remote}', p #>> '{git,commit}', (p #>> '{git,clean}')::boolean)
  ON CONFLICT (workflow_id, temporal_run_id) DO NOTHING;
  SELECT * INTO STRICT own FROM runs WHERE workflow_id = p ->> 'workflowId' AND temporal_run_id = p ->> 'temporalRunId';
  IF own.status <> 'waiting' THEN RETURN jsonb_build_object('runId', own.id, 'status', own.status); END IF;
  IF p ? 'maxConcurrent' THEN
    SELECT count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE status = 'waiting' AND seq < own.seq) INTO running, ahead
    FROM runs WHERE pipeline = own.pipeline AND status IN ('waiting', 'running');
    IF running + ahead >= (p ->> 'maxConcurrent')::integer THEN RETURN jsonb_build_object('runId', own.id, 'status', 'waiting'); END IF;
  END IF;
  UPDATE runs SET status = 'running', started_at = now() WHERE id = own.id;
  RETURN jsonb_build_object('runId', own.id, 'status', 'running');
END
$$;
--> statement-breakpoint
CREATE FUNCTION millrace_end_run(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  own_status text;
BEGIN
  -- Strong enough to keep new attempts out, and no more: what a completing stage writes refers to this row.
  SELECT status INTO own_status FROM runs WHERE id = p ->> 'runId' FOR NO KEY UPDATE;
  IF own_status IS NULL THEN RETURN NULL; END IF;
  IF own_status NOT IN ('waiting', 'running') AND (p ->> 'ifOpen')::boolean THEN
    RETURN jsonb_build_object('changed', false, 'status', own_status);
  END IF;
  UPDATE runs SET status = p ->> 'status', ended_at = now(), error = p -> 'error' WHERE id = p ->> 'runId';
  -- Greater tokens fence off the attempts that still run.
  UPDATE stages SET status = 'cancelled', ended_at = now(), token = token + 1 WHERE run_id = p ->> 'runId' AND status = 'running';
  RETURN jsonb_build_object('changed', true, 'status', p ->> 'status');
END
$$;
