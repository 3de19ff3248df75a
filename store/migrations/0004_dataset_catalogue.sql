ALTER TABLE "datasets" ADD COLUMN "kind" text;--> statement-breakpoint
ALTER TABLE "datasets" ADD COLUMN "parents" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "datasets" ADD COLUMN "profile" text;--> statement-breakpoint
ALTER TABLE "datasets" ADD COLUMN "report" text;--> statement-breakpoint
ALTER TABLE "datasets" ADD COLUMN "owner" text;--> statement-breakpoint
ALTER TABLE "datasets" ADD COLUMN "collected_at" timestamp (3) with time zone;--> statement-breakpoint
CREATE OR REPLACE FUNCTION millrace_complete_stage(p jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  state text := millrace_check_attempt(p ->> 'runId', p ->> 'name', (p ->> 'token')::bigint);
BEGIN
  IF state = 'completed' THEN RETURN 'ok'; END IF;
  IF state <> 'running' THEN RETURN state; END IF;

  UPDATE stages SET
    status = 'completed', output = p -> 'output', ended_at = now(), error = NULL,
    cached_from = CASE WHEN jsonb_typeof(p -> 'cachedFrom') = 'object' THEN p -> 'cachedFrom' END,
    cpu_seconds = (p ->> 'cpuSeconds')::double precision, peak_mib = (p ->> 'peakMib')::double precision, device = p ->> 'device'
  WHERE run_id = p ->> 'runId' AND name = p ->> 'name';

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
