// The house's arrows (docs/architecture.md), as two rule sets. They need two readings of the tree, which one configuration
// cannot ask for: `arrows` sees type-only imports too, `values` sees only what is left when types are erased: what runs.
// `npm run verify` and tests/architecture/boundaries.test.ts run both through scripts/boundaries.mjs; the exported object
// itself is the first one, so that `npx depcruise` alone draws and checks the arrows.
//
// A folder may import itself and what stands after its name, nothing else of the house. A path narrows an arrow to files.
/** Pure: counts in, evidence out. */
const BREAKER_TEST = 'ml/sequential/(?:rates|e-process)\\.ts$';

/** Pure: counts or texts in, figures out. */
const DRIFT_FIGURES = 'ml/drift/(?:distributions|ngrams|two-samples)\\.ts$';

const ARROWS = {
  contracts: [],
  config: ['contracts/'],
  data: ['contracts/', 'config/module-worker\\.ts$', DRIFT_FIGURES],
  ml: ['contracts/', 'config/module-worker\\.ts$'],
  store: ['contracts/', 'config/'],
  // pages: data reports and model cards
  reports: ['contracts/'],
  activities: ['contracts/', 'config/', 'data/', 'ml/', 'store/', 'reports/'],
  // a server takes a challenger's traffic back by itself: by the same test as the guards
  serving: ['contracts/', 'config/', 'store/', 'data/row-', 'data/request-row', BREAKER_TEST],
  api: ['contracts/', 'config/', 'store/', 'data/'],
  stack: ['contracts/', 'config/', 'store/'],
  // the command line and the API look at snapshots: samples, queries, comparisons
  // `millrace simulate` replays policies in its own process
  cli: ['contracts/', 'config/', 'store/', 'data/', 'stack/', 'reports/', 'ml/backtest/simulate-policies\\.ts$'],
  testing: ['contracts/', 'config/', 'data/', 'ml/', 'store/', 'activities/', 'workflows/', 'workers/', 'stack/', 'pipelines/', 'serving/', 'api/'],
  workers: ['contracts/', 'config/', 'data/', 'ml/', 'store/', 'activities/', 'workflows/', 'pipelines/', 'serving/', 'api/', 'stack/'],
};
/** Workflows and pipelines have rules of their own below; benchmarks may see the whole house. */
const FOLDERS = [...Object.keys(ARROWS), 'workflows', 'pipelines', 'bench'];
const HOUSE = `^(?:${FOLDERS.join('|')})/`;
/** Packages may be found as node_modules/NAME/… or, where they cannot be resolved, by their bare name. */
const npm = (...names) => `^(?:node_modules/)?(?:${names.join('|')})(?:/|$)`;
const core = (...names) => `^(?:node:)?(?:${names.join('|')})(?:/|$)`;

/** A user's steps file is an activity, not a workflow: it stands in the pipeline's folder and runs on a pool. */
const STEPS = '^pipelines/[^/]+/steps\\.ts$';

/** What workflow code may name in its types: activities, and what a trainer can be given (`gbdt({ trees: 200 })`). */
const KNOWN_BY_TYPE = ['^activities/', '^ml/[^/]+/parameters\\.ts$'];

/** The search of a tuning decides what runs next: its state is the workflow's, so it is workflow code. */
const SEARCH = '^ml/(?:search/|random\\.ts$)';

const arrows = [
  ...Object.keys(ARROWS).map((folder) => ({
    name: `${folder}-arrows`,
    comment: `${folder} may import itself${ARROWS[folder].length === 0 ? ' only' : ` and ${ARROWS[folder].join(', ')}`}.`,
    severity: 'error',
    from: { path: `^${folder}/` },
    to: { path: HOUSE, pathNot: [`^${folder}/`, ...ARROWS[folder].map((to) => `^${to}`)] },
  })),
  {
    name: 'workflows-arrows',
    comment:
      'workflows may import itself, contracts/ and the search of a tuning. Activities and the parameters of trainers are known to it by their types only.',
    severity: 'error',
    from: { path: '^workflows/' },
    to: { path: HOUSE, pathNot: ['^workflows/', '^contracts/', SEARCH, ...KNOWN_BY_TYPE] },
  },
  {
    name: 'workflows-know-what-acts-by-type-only',
    comment: 'Workflow code is bundled without activities and trainers: use `import type`.',
    severity: 'error',
    from: { path: '^workflows/' },
    to: { path: KNOWN_BY_TYPE, dependencyTypesNot: ['type-only'] },
  },
  {
    name: 'pipelines-arrows',
    comment: 'A pipeline imports contracts/, workflows/ and its own folder; its steps file alone may import activities/steps.ts.',
    severity: 'error',
    from: { path: '^pipelines/', pathNot: STEPS },
    to: { path: HOUSE, pathNot: ['^pipelines/', '^contracts/', '^workflows/'] },
  },
  {
    name: 'steps-arrows',
    comment: 'A steps file imports contracts/, its own folder and activities/steps.ts (`millrace/steps`).',
    severity: 'error',
    from: { path: STEPS },
    to: { path: HOUSE, pathNot: ['^pipelines/', '^contracts/', '^activities/steps\\.ts$'] },
  },
  {
    name: 'pipelines-know-their-steps-by-type-only',
    comment: 'Steps run on a pool and are called through the typed proxy: use `import type`.',
    severity: 'error',
    from: { path: '^pipelines/', pathNot: STEPS },
    to: { path: STEPS, dependencyTypesNot: ['type-only'] },
  },
  {
    name: 'pipelines-do-not-know-each-other',
    comment: 'A pipeline imports nothing from another pipeline.',
    severity: 'error',
    from: { path: '^pipelines/([^/]+)/' },
    to: { path: '^pipelines/[^/]+/', pathNot: '^pipelines/$1/' },
  },
  {
    name: 'contracts-are-pure',
    comment: 'contracts uses zod and nothing else.',
    severity: 'error',
    from: { path: '^contracts/' },
    to: { pathNot: ['^contracts/', npm('zod')], couldNotResolve: false },
  },
  {
    name: 'ml-is-pure',
    comment: 'ml computes: no files, no database, no network. Running a graph is computing too; of Node it may ask threads and the clock.',
    severity: 'error',
    from: { path: '^ml/' },
    to: {
      pathNot: [
        '^ml/',
        HOUSE,
        npm('zod', 'onnx-proto', 'onnxruntime-node', 'onnxruntime-common', 'long', 'danfojs-node', '@tensorflow/[^/]+'),
        core('worker_threads', 'os', 'perf_hooks', 'url', 'module', 'path', 'crypto', 'buffer', 'timers'),
      ],
    },
  },
  {
    name: 'postgres-is-spoken-by-the-store-only',
    comment: 'SQL against Postgres lives in store/; stack/ may ask whether the server answers.',
    severity: 'error',
    from: { path: HOUSE, pathNot: ['^store/', '^stack/', '^bench/', '^testing/'] },
    to: { path: npm('pg', 'drizzle-orm', '@types/pg'), dependencyTypesNot: ['type-only'] },
  },
  {
    name: 'duckdb-is-spoken-by-data-only',
    comment: 'SQL against DuckDB lives in data/; activities may hand a relation to a user step.',
    severity: 'error',
    from: { path: HOUSE, pathNot: ['^data/', '^activities/', '^bench/', '^testing/'] },
    to: { path: npm('@duckdb'), dependencyTypesNot: ['type-only'] },
  },
  {
    name: 'tests-are-not-imported',
    comment: 'What ships does not import tests.',
    severity: 'error',
    from: { path: HOUSE },
    to: { path: '^tests/' },
  },
  {
    name: 'no-dev-dependency-in-what-ships',
    comment: 'A package used at run time belongs into `dependencies`.',
    severity: 'error',
    from: { path: HOUSE, pathNot: '^bench/' },
    to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only', 'npm'] },
  },
  {
    name: 'no-unresolvable',
    comment: 'An import must lead somewhere.',
    severity: 'error',
    from: { pathNot: '^(?:tests|bench)/.*project.*/pipelines/' },
    to: { couldNotResolve: true },
  },
];

const values = [
  {
    name: 'nothing-in-workflows-reaches-io',
    comment:
      'Workflow code is replayed: from workflows/ only contracts, the search of a tuning and the packages of the sandbox are reachable, also through a third file.',
    severity: 'error',
    from: { path: '^workflows/' },
    to: { pathNot: ['^workflows/', '^contracts/', SEARCH, npm('zod', 'long', '@temporalio/workflow', '@temporalio/common')], reachable: true },
  },
  {
    name: 'no-pipeline-reaches-io',
    comment: 'A pipeline is workflow code: the same holds for every file of it but the steps.',
    severity: 'error',
    from: { path: '^pipelines/', pathNot: STEPS },
    to: { pathNot: ['^pipelines/', '^workflows/', '^contracts/', SEARCH, npm('zod', 'long', '@temporalio/workflow', '@temporalio/common')], reachable: true },
  },
  {
    name: 'serving-reaches-no-training',
    comment: 'The prediction server loads a model file; it contains no trainer and no activity, also not through a third file.',
    severity: 'error',
    from: { path: '^serving/' },
    to: {
      pathNot: `^${BREAKER_TEST}`,
      path: [
        '^ml/',
        '^activities/',
        '^workflows/',
        '^workers/',
        npm('@temporalio/worker', '@temporalio/client', '@temporalio/activity', '@temporalio/workflow'),
      ],
      reachable: true,
    },
  },
  {
    name: 'no-cycles',
    comment: 'Modules that need each other to run are one module, or lack a third one.',
    severity: 'error',
    from: {},
    to: { circular: true },
  },
];

const OPTIONS = {
  doNotFollow: { path: 'node_modules' },
  preserveSymlinks: true,
  exclude: { path: '^(?:dist|\\.millrace|coverage)/' },
  tsConfig: { fileName: 'tsconfig.json' },
  enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'], extensions: ['.ts', '.mjs', '.js', '.json'] },
  skipAnalysisNotInRules: true,
};

module.exports = { forbidden: arrows, options: { ...OPTIONS, tsPreCompilationDeps: true } };

/** Not enumerable: dependency-cruiser refuses keys that it does not know. */
Object.defineProperties(module.exports, {
  values: { value: { forbidden: values, options: { ...OPTIONS, tsPreCompilationDeps: false } } },
  folders: { value: FOLDERS },
});
