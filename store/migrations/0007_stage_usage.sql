ALTER TABLE "stages" ADD COLUMN "gpu_seconds" double precision;--> statement-breakpoint
ALTER TABLE "stages" ADD COLUMN "gpu_peak_mib" double precision;--> statement-breakpoint
ALTER TABLE "stages" ADD COLUMN "gpu_utilisation" double precision;--> statement-breakpoint
ALTER TABLE "stages" ADD COLUMN "cost" double precision;--> statement-breakpoint
-- Adds what an attempt used: times and cost of all attempts add up, the peaks are the greatest.
CREATE FUNCTION millrace_add_usage(p_run text, p_name text, u jsonb) RETURNS void LANGUAGE sql AS $$
  UPDATE stages SET
    cpu_seconds = coalesce(cpu_seconds, 0) + (u ->> 'cpuSeconds')::double precision,
    peak_mib = greatest(peak_mib, (u ->> 'peakMib')::double precision),
    gpu_seconds = CASE WHEN u ? 'gpuSeconds' THEN coalesce(gpu_seconds, 0) + (u ->> 'gpuSeconds')::double precision ELSE gpu_seconds END,
    gpu_peak_mib = greatest(gpu_peak_mib, (u ->> 'gpuPeakMib')::double precision),
    gpu_utilisation = coalesce((u ->> 'gpuUtilisation')::double precision, gpu_utilisation),
    cost = CASE WHEN u ? 'cost' THEN coalesce(cost, 0) + (u ->> 'cost')::double precision ELSE cost END
  WHERE run_id = p_run AND name = p_name
$$;
--> statement-breakpoint
-- What earlier attempts used stays.
CREATE OR REPLACE FUNCTION millrace_begin_stage(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  own stages%ROWTYPE;
  hit stages%ROWTYPE;
  nearest stages%ROWTYPE;
  run_status text;
  run_pipeline text;
  why jsonb;
  now_token bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
  p_run text := p ->> 'runId';
  p_name text := p ->> 'name';
  p_fingerprint text := p ->> 'fingerprint';
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  -- The run cannot end between this look and the stage's record.
  SELECT status, pipeline INTO run_status, run_pipeline FROM runs WHERE id = p_run FOR SHARE;
  IF run_status IS NULL THEN RETURN jsonb_build_object('refused', 'noRun'); END IF;
  IF run_status NOT IN ('waiting', 'running') THEN RETURN jsonb_build_object('refused', 'ended', 'status', run_status); END IF;

  SELECT * INTO own FROM stages WHERE run_id = p_run AND name = p_name FOR UPDATE;
  IF own.status = 'completed' AND own.fingerprint IS NOT DISTINCT FROM p_fingerprint THEN
    RETURN jsonb_build_object('token', own.token, 'completed', true, 'output', own.output);
  END IF;

  IF p_fingerprint IS NOT NULL THEN
    IF (p ->> 'useCache')::boolean THEN
      SELECT * INTO hit FROM stages
      WHERE fingerprint = p_fingerprint AND status = 'completed' AND cached_from IS NULL AND NOT (run_id = p_run AND name = p_name)
      ORDER BY ended_at DESC LIMIT 1;
    END IF;
    IF hit.run_id IS NULL THEN
      SELECT * INTO nearest FROM stages
      WHERE pipeline = run_pipeline AND name = p_name AND status = 'completed' AND run_id <> p_run
      ORDER BY ended_at DESC LIMIT 1;
      why := CASE
        WHEN NOT (p ->> 'useCache')::boolean THEN '{"kind": "notAsked"}'::jsonb
        WHEN nearest.run_id IS NULL THEN '{"kind": "first"}'::jsonb
        ELSE jsonb_build_object('kind', 'differs', 'fromRunId', nearest.run_id,
                                'parts', millrace_differing_parts(nearest.fingerprint_parts, p -> 'fingerprintParts'))
      END;
    END IF;
  END IF;

  INSERT INTO stages AS s (run_id, name, pipeline, kind, ordinal, status, attempts, token, pool, worker, fingerprint, fingerprint_parts,
                           miss_reason, input, started_at)
  VALUES (p_run, p_name, run_pipeline, p ->> 'kind', (p ->> 'ordinal')::integer, 'running', (p ->> 'attempt')::integer, now_token,
          p ->> 'pool', p ->> 'worker', p_fingerprint, p -> 'fingerprintParts', why, p -> 'input', now())
  ON CONFLICT (run_id, name) DO UPDATE SET
    kind = excluded.kind, ordinal = excluded.ordinal, status = 'running', attempts = greatest(s.attempts, excluded.attempts),
    token = greatest(s.token + 1, excluded.token), pool = excluded.pool, worker = excluded.worker, device = NULL,
    fingerprint = excluded.fingerprint, fingerprint_parts = excluded.fingerprint_parts, miss_reason = excluded.miss_reason,
    cached_from = NULL, input = excluded.input, output = NULL, ended_at = NULL, error = NULL,
    -- A checkpoint belongs to the work that made it: other inputs start anew.
    checkpoint_sha = CASE WHEN s.fingerprint IS NOT DISTINCT FROM excluded.fingerprint THEN s.checkpoint_sha END,
    checkpoint_step = CASE WHEN s.fingerprint IS NOT DISTINCT FROM excluded.fingerprint THEN s.checkpoint_step END
  RETURNING * INTO own;

  RETURN jsonb_build_object('token', own.token, 'completed', false, 'missReason', why)
    || CASE WHEN own.checkpoint_sha IS NULL THEN '{}'::jsonb
            ELSE jsonb_build_object('checkpoint', jsonb_build_object('sha', own.checkpoint_sha, 'step', own.checkpoint_step)) END
    || CASE WHEN hit.run_id IS NULL THEN '{}'::jsonb
            ELSE jsonb_build_object('hit', jsonb_build_object('fromRunId', hit.run_id, 'fromStage', hit.name, 'output', hit.output)) END;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION millrace_complete_stage(p jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  state text := millrace_check_attempt(p ->> 'runId', p ->> 'name', (p ->> 'token')::bigint);
BEGIN
  IF state = 'completed' THEN RETURN 'ok'; END IF;
  IF state <> 'running' THEN RETURN state; END IF;

  UPDATE stages SET
    status = 'completed', output = p -> 'output', ended_at = now(), error = NULL,
    cached_from = CASE WHEN jsonb_typeof(p -> 'cachedFrom') = 'object' THEN p -> 'cachedFrom' END,
    device = p ->> 'device'
  WHERE run_id = p ->> 'runId' AND name = p ->> 'name';

  IF p ? 'usage' THEN PERFORM millrace_add_usage(p ->> 'runId', p ->> 'name', p -> 'usage'); END IF;
  IF p ? 'metrics' THEN
    DELETE FROM metrics WHERE run_id = p ->> 'runId' AND stage = p ->> 'name'
      AND (key, step) IN (SELECT m ->> 'key', (m ->> 'step')::bigint FROM jsonb_array_elements(p -> 'metrics') AS m);
    INSERT INTO metrics (run_id, stage, key, step, value)
    SELECT p ->> 'runId', p ->> 'name', m ->> 'key', (m ->> 'step')::bigint, (m ->> 'value')::double precision
    FROM jsonb_array_elements(p -> 'metrics') AS m;
  END IF;
  IF p ? 'artifacts' THEN
    INSERT INTO artifacts (sha256, size_bytes, kind)
    SELECT a ->> 'sha256', (a ->> 'sizeBytes')::bigint, a ->> 'kind' FROM jsonb_array_elements(p -> 'artifacts') AS a
    ON CONFLICT DO NOTHING;
  END IF;
  IF p ? 'datasets' THEN
    INSERT INTO datasets (id, name, rows, columns, size_bytes, source, kind, parents, profile, report, owner, run_id, stage)
    SELECT d ->> 'id', d ->> 'name', (d ->> 'rows')::bigint, d -> 'columns', (d ->> 'sizeBytes')::bigint, d -> 'source', d ->> 'kind',
           coalesce(d -> 'parents', '[]'), d ->> 'profile', d ->> 'report', d ->> 'owner', p ->> 'runId', p ->> 'name'
    FROM jsonb_array_elements(p -> 'datasets') AS d
    -- What was made again after retention had taken it is there again.
    ON CONFLICT (id) DO UPDATE SET collected_at = NULL;
  END IF;
  IF p ? 'undos' THEN
    INSERT INTO undos (run_id, stage, kind, key, payload)
    SELECT p ->> 'runId', p ->> 'name', u ->> 'kind', u ->> 'key', u -> 'payload' FROM jsonb_array_elements(p -> 'undos') AS u
    ON CONFLICT DO NOTHING;
  END IF;
  RETURN 'ok';
END
$$;
