import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync, copyFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

interface Violation {
  readonly rule: string;
  readonly from: string;
  readonly to: string;
  readonly via: readonly string[];
}
interface Boundaries {
  readonly checkBoundaries: (root?: string) => Promise<{ readonly violations: readonly Violation[]; readonly modules: number }>;
}

/** The source itself is checked by `npm run verify -- boundaries`; here is tested that the rules find what breaks them. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
// Plain script without types: imported by address, and given its shape here.
const { checkBoundaries } = (await import(new URL('../../scripts/boundaries.mjs', import.meta.url).href)) as Boundaries;

/** A house in small that keeps every rule, among them the arrows that look forbidden and are not. */
const GOOD: Readonly<Record<string, string>> = {
  'contracts/errors.ts': "import { z } from 'zod';\nexport const E = z.string();\n",
  'contracts/ids.ts': "import { E } from './errors.ts';\nexport const ID = E;\n",
  'config/module-worker.ts': "import { Worker } from 'node:worker_threads';\nexport const start = (): unknown => Worker;\n",
  'data/read.ts': "import { DuckDBInstance } from '@duckdb/node-api';\nimport { E } from '../contracts/errors.ts';\nexport const read = [DuckDBInstance, E];\n",
  'data/row-transforms.ts': "import { E } from '../contracts/errors.ts';\nexport const apply = E;\n",
  'ml/trainer.ts': "import { cpus } from 'node:os';\nimport { start } from '../config/module-worker.ts';\nexport const trainer = [cpus, start];\n",
  'ml/gbdt/parameters.ts': 'export const trees = 100;\nexport interface Parameters {\n  readonly trees: number;\n}\n',
  'workflows/trainers.ts': "import type { Parameters } from '../ml/gbdt/parameters.ts';\nexport const gbdt = (p: Parameters): Parameters => p;\n",
  'store/runs.ts': "import pg from 'pg';\nimport { E } from '../contracts/errors.ts';\nexport const runs = [pg, E];\n",
  'activities/steps.ts': "import { read } from '../data/read.ts';\nexport const step = read;\n",
  'activities/train.ts':
    "import { trainer } from '../ml/trainer.ts';\nimport { runs } from '../store/runs.ts';\nexport const train = [trainer, runs];\nexport type Train = typeof train;\n",
  'workflows/stages.ts':
    "import { proxyActivities } from '@temporalio/workflow';\nimport type { Train } from '../activities/train.ts';\nimport { E } from '../contracts/errors.ts';\nexport const stages = [proxyActivities, E];\nexport type T = Train;\n",
  'pipelines/good/steps.ts':
    "import { readFileSync } from 'node:fs';\nimport { step } from '../../activities/steps.ts';\nexport const mine = [step, readFileSync];\n",
  'pipelines/good/pipeline.ts':
    "import { stages } from '../../workflows/stages.ts';\nimport type * as mySteps from './steps.ts';\nexport const pipeline = stages;\nexport type S = typeof mySteps;\n",
  'serving/server.ts': "import { apply } from '../data/row-transforms.ts';\nimport { runs } from '../store/runs.ts';\nexport const server = [apply, runs];\n",
  'stack/up.ts': "import { start } from '../config/module-worker.ts';\nexport const up = start;\n",
  'cli/main.ts': "import { Client } from '@temporalio/client';\nimport { up } from '../stack/up.ts';\nexport const main = [Client, up];\n",
  'workers/cpu.ts': "import { train } from '../activities/train.ts';\nexport const worker = train;\n",
  'tests/some.test.ts': "import { worker } from '../workers/cpu.ts';\nexport const t = worker;\n",
};

interface RuleSet {
  readonly forbidden: readonly { readonly name: string }[];
}
const config = createRequire(import.meta.url)('../../.dependency-cruiser.cjs') as RuleSet & { readonly values: RuleSet };

interface Planted {
  readonly title: string;
  /** The file that is at fault, and every rule that must say so. */
  readonly at: string;
  readonly rules: readonly string[];
  readonly files: Readonly<Record<string, string>>;
}
const one = (title: string, at: string, code: string, ...rules: string[]): Planted => ({ title, at, rules, files: { [at]: `${code}\n` } });

const PLANTED: readonly Planted[] = [
  one(
    'contracts importing another folder',
    'contracts/bad-arrow.ts',
    "import { runs } from '../store/runs.ts';\nexport const x = runs;",
    'contracts-arrows',
    'contracts-are-pure',
  ),
  one(
    'contracts importing a type of another folder',
    'contracts/bad-type.ts',
    "import type { Train } from '../activities/train.ts';\nexport type X = Train;",
    'contracts-arrows',
    'contracts-are-pure',
  ),
  one('contracts reading a file', 'contracts/bad-io.ts', "import { readFileSync } from 'node:fs';\nexport const x = readFileSync;", 'contracts-are-pure'),
  one('config importing the store', 'config/bad.ts', "import { runs } from '../store/runs.ts';\nexport const x = runs;", 'config-arrows'),
  one('data importing ml', 'data/bad.ts', "import { trainer } from '../ml/trainer.ts';\nexport const x = trainer;", 'data-arrows'),
  one('ml importing data', 'ml/bad.ts', "import { read } from '../data/read.ts';\nexport const x = read;", 'ml-arrows'),
  one('ml opening a file', 'ml/bad-fs.ts', "import { readFileSync } from 'node:fs';\nexport const x = readFileSync;", 'ml-is-pure'),
  one('ml opening a promised file', 'ml/bad-fsp.ts', "import { readFile } from 'node:fs/promises';\nexport const x = readFile;", 'ml-is-pure'),
  one('ml calling a service', 'ml/bad-http.ts', "import { fastify } from 'fastify';\nexport const x = fastify;", 'ml-is-pure'),
  one('store importing activities', 'store/bad.ts', "import { step } from '../activities/steps.ts';\nexport const x = step;", 'store-arrows'),
  one(
    'an activity importing a workflow',
    'activities/bad.ts',
    "import { stages } from '../workflows/stages.ts';\nexport const x = stages;",
    'activities-arrows',
  ),
  one('an activity speaking to Postgres itself', 'activities/bad-pg.ts', "import pg from 'pg';\nexport const x = pg;", 'postgres-is-spoken-by-the-store-only'),
  one(
    'the prediction server importing a trainer',
    'serving/bad.ts',
    "import { trainer } from '../ml/trainer.ts';\nexport const x = trainer;",
    'serving-arrows',
    'serving-reaches-no-training',
  ),
  one(
    'the prediction server reading data with DuckDB',
    'serving/bad-duck.ts',
    "import { DuckDBInstance } from '@duckdb/node-api';\nexport const x = DuckDBInstance;",
    'duckdb-is-spoken-by-data-only',
  ),
  one('a page asking the store', 'reports/bad.ts', "import { runs } from '../store/runs.ts';\nexport const x = runs;", 'reports-arrows'),
  one('the API importing an activity', 'api/bad.ts', "import { step } from '../activities/steps.ts';\nexport const x = step;", 'api-arrows'),
  one('the command line importing an activity', 'cli/bad.ts', "import { step } from '../activities/steps.ts';\nexport const x = step;", 'cli-arrows'),
  one('the stack importing a worker', 'stack/bad.ts', "import { worker } from '../workers/cpu.ts';\nexport const x = worker;", 'stack-arrows'),
  one('a worker importing a benchmark or test tool', 'workers/bad.ts', "import { kit } from '../testing/kit.ts';\nexport const x = kit;", 'workers-arrows'),
  one('the test kit importing the command line', 'testing/bad.ts', "import { main } from '../cli/main.ts';\nexport const x = main;", 'testing-arrows'),
  one('shipped code importing a test', 'bench/bad.ts', "import { t } from '../tests/some.test.ts';\nexport const x = t;", 'tests-are-not-imported'),
  one(
    'shipped code importing a development package',
    'workers/bad-dev.ts',
    "import fc from 'fast-check';\nexport const x = fc;",
    'no-dev-dependency-in-what-ships',
  ),
  one('an import that leads nowhere', 'workers/bad-nowhere.ts', "import { x } from './not-there.ts';\nexport const y = x;", 'no-unresolvable'),
  one(
    'a workflow importing an activity as a value',
    'workflows/bad-value.ts',
    "import { step } from '../activities/steps.ts';\nexport const x = step;",
    'workflows-know-what-acts-by-type-only',
    'nothing-in-workflows-reaches-io',
  ),
  one(
    'a workflow importing the parameters of a trainer as a value',
    'workflows/bad-parameters.ts',
    "import { trees } from '../ml/gbdt/parameters.ts';\nexport const x = trees;",
    'workflows-know-what-acts-by-type-only',
    'nothing-in-workflows-reaches-io',
  ),
  one(
    'a workflow importing the type of a trainer itself',
    'workflows/bad-trainer.ts',
    "import type { trainer } from '../ml/trainer.ts';\nexport type X = typeof trainer;",
    'workflows-arrows',
  ),
  one(
    'a workflow importing an activity for its types with an import that stays when they are erased',
    'workflows/bad-inline.ts',
    "import { type Train } from '../activities/train.ts';\nexport type X = Train;",
    'nothing-in-workflows-reaches-io',
  ),
  one(
    'a workflow importing the store',
    'workflows/bad-store.ts',
    "import { runs } from '../store/runs.ts';\nexport const x = runs;",
    'workflows-arrows',
    'nothing-in-workflows-reaches-io',
  ),
  one(
    'a workflow importing the type of a store',
    'workflows/bad-type.ts',
    "import type { runs } from '../store/runs.ts';\nexport type X = typeof runs;",
    'workflows-arrows',
  ),
  one(
    'a workflow importing Node',
    'workflows/bad-node.ts',
    "import { readFileSync } from 'node:fs';\nexport const x = readFileSync;",
    'nothing-in-workflows-reaches-io',
  ),
  one(
    'a workflow importing the Temporal client',
    'workflows/bad-client.ts',
    "import { Client } from '@temporalio/client';\nexport const x = Client;",
    'nothing-in-workflows-reaches-io',
  ),
  {
    title: 'a workflow reaching Node through a third file of contracts',
    at: 'workflows/bad-third.ts',
    rules: ['nothing-in-workflows-reaches-io'],
    files: {
      'workflows/bad-third.ts': "import { first } from '../contracts/first.ts';\nexport const x = first;\n",
      'contracts/first.ts': "import { second } from './second.ts';\nexport const first = second;\n",
      'contracts/second.ts': "import { readFileSync } from 'node:fs';\nexport const second = readFileSync;\n",
    },
  },
  one(
    'a pipeline importing data',
    'pipelines/bad/pipeline.ts',
    "import { read } from '../../data/read.ts';\nexport const x = read;",
    'pipelines-arrows',
    'no-pipeline-reaches-io',
  ),
  one('a pipeline importing Node', 'pipelines/bad/params.ts', "import { join } from 'node:path';\nexport const x = join;", 'no-pipeline-reaches-io'),
  one(
    'a pipeline importing steps as values',
    'pipelines/good/bad-steps.ts',
    "import { mine } from './steps.ts';\nexport const x = mine;",
    'pipelines-know-their-steps-by-type-only',
    'no-pipeline-reaches-io',
  ),
  one(
    'a pipeline importing another pipeline',
    'pipelines/bad/other.ts',
    "import { pipeline } from '../good/pipeline.ts';\nexport const x = pipeline;",
    'pipelines-do-not-know-each-other',
  ),
  one('a steps file importing the store', 'pipelines/bad/steps.ts', "import { runs } from '../../store/runs.ts';\nexport const x = runs;", 'steps-arrows'),
  {
    title: 'the prediction server reaching a trainer through a third file',
    at: 'serving/bad-third.ts',
    rules: ['serving-reaches-no-training'],
    files: {
      'serving/bad-third.ts': "import { helper } from '../data/row-helper.ts';\nexport const x = helper;\n",
      'data/row-helper.ts': "import { trainer } from '../ml/trainer.ts';\nexport const helper = trainer;\n",
    },
  },
  {
    title: 'modules that need each other',
    at: 'stack/cycle-a.ts',
    rules: ['no-cycles'],
    files: {
      'stack/cycle-a.ts': "import { b } from './cycle-b.ts';\nexport const a = (): unknown => b;\n",
      'stack/cycle-b.ts': "import { a } from './cycle-a.ts';\nexport const b = (): unknown => a;\n",
    },
  },
];

function write(root: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}

describe('the arrows between the folders', () => {
  let house: string;
  let violations: readonly Violation[] = [];

  beforeAll(() => {
    house = mkdtempSync(join(tmpdir(), 'millrace-house-'));
    for (const file of ['package.json', 'tsconfig.json']) copyFileSync(join(ROOT, file), join(house, file));
    symlinkSync(join(ROOT, 'node_modules'), join(house, 'node_modules'));
    write(house, GOOD);
  });
  afterAll(() => rmSync(house, { recursive: true, force: true }));

  test('are kept by a house in small, its allowed exceptions included', async () => {
    expect((await checkBoundaries(house)).violations).toEqual([]);
  });

  describe('when a bad import is planted', () => {
    beforeAll(async () => {
      write(house, { 'testing/kit.ts': 'export const kit = 1;\n' });
      for (const { files } of PLANTED) write(house, files);
      violations = (await checkBoundaries(house)).violations;
    });

    test.each(PLANTED)('$title is found', ({ at, rules }) => {
      const found = [...new Set(violations.filter((v) => v.from === at).map((v) => v.rule))];
      expect(found.sort()).toEqual([...rules].sort());
    });

    test('a violation through a third file names the way it took', () => {
      const found = violations.find((v) => v.from === 'workflows/bad-third.ts');
      expect(found?.via).toEqual(expect.arrayContaining(['contracts/first.ts', 'contracts/second.ts']));
    });
  });

  test('have no rule without a planted import that breaks it', () => {
    const names = [...config.forbidden, ...config.values.forbidden].map((rule) => rule.name);
    const broken = new Set(PLANTED.flatMap((p) => p.rules));
    expect(names.filter((name) => !broken.has(name))).toEqual([]);
  });
});
