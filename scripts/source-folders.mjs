/** Folders of the sources that dist/ is built from. */
export const SOURCE_FOLDERS = [
  'contracts',
  'config',
  'data',
  'ml',
  'store',
  'workflows',
  'activities',
  'workers',
  'pipelines',
  'serving',
  'reports',
  'api',
  'cli',
  'stack',
  'testing',
  'bench',
];
