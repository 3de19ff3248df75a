import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DuckDBInstance } from '@duckdb/node-api';

/** Passes over the flights in processes of their own, for the benchmarks of data. */
const execute = promisify(execFile);
const THREADS = 2;

export interface Pass {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakMib: number;
  readonly rows: number;
  readonly failed: number;
}

export type PassMode = 'ingest' | 'profile+30' | 'profile+10' | '10' | 'duckdb';

/** @throws Error when the pass failed, or found other than `rows` rows or an expectation that does not hold */
export async function passOver(mode: PassMode, source: string, folder: string, rows: number): Promise<Pass> {
  // Built, this file and its child are JavaScript; run from the sources, both are TypeScript.
  const child = fileURLToPath(new URL(`./ingest-validate-child${extname(import.meta.url)}`, import.meta.url));
  const { stdout } = await execute(process.execPath, [...process.execArgv, child, mode, source, folder, String(THREADS)]);
  return checked(JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Pass, mode, rows);
}

export function checked(pass: Pass, mode: string, rows: number): Pass {
  if (pass.rows !== rows || pass.failed !== 0) throw new Error(`${mode} gave ${pass.rows} rows and ${pass.failed} failed expectations`);
  return pass;
}

export const flightsPath = (): string => join(dirname(createRequire(import.meta.url).resolve('vega-datasets')), '..', 'data', 'flights-3m.parquet');

const literal = (value: string): string => `'${value.replaceAll("'", "''")}'`;

/** Writes what a query of the flights (`flights`) gives to a Parquet file, and the names of all airports to `airports.json` beside it. */
export async function prepareFlights(folder: string, query: string): Promise<{ readonly path: string; readonly rows: number }> {
  const path = join(folder, 'source.parquet');
  const instance = await DuckDBInstance.create(':memory:', { memory_limit: '2GiB' });
  const connection = await instance.connect();
  await connection.run(`CREATE VIEW flights AS SELECT * FROM ${literal(flightsPath())}`);
  await connection.run(`COPY (${query}) TO ${literal(path)} (FORMAT parquet)`);
  const found = (await connection.runAndReadAll(`SELECT count(*)::INTEGER AS n FROM ${literal(path)}`)).getRowObjects()[0];
  const airports = (await connection.runAndReadAll('SELECT DISTINCT unnest([origin, destination]) AS a FROM flights ORDER BY a')).getRowObjects();
  await writeFile(join(folder, 'airports.json'), JSON.stringify(airports.map(({ a }) => a)));
  connection.closeSync();
  instance.closeSync();
  return { path, rows: Number(found?.['n']) };
}
