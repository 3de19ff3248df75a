// The prediction server as `serve` measures it: the whole server, over a route that stands fast instead of Postgres.
// Arguments: the state folder (its artifacts hold the version), the version as JSON, whether predictions are logged. Prints its port.
import { join } from 'node:path';
import type { Route, ServedVersion } from '../contracts/routes.ts';
import { createPredictionServer } from '../serving/server.ts';
import { createArtifacts } from '../store/artifacts.ts';

const [home = '', version = '{}', logged = 'true'] = process.argv.slice(2);
const route: Route = { endpoint: 'bench', epoch: 1, champion: JSON.parse(version) as ServedVersion, challenger: null, log: logged === 'true' };
const server = createPredictionServer({
  serverId: 'bench',
  host: '127.0.0.1',
  port: 0,
  home,
  serverVersion: '0.0.0',
  routes: { listRoutes: () => Promise.resolve([route]) },
  registry: { heartbeat: () => Promise.resolve(), leave: () => Promise.resolve() },
  stats: { add: () => Promise.resolve(), addBreak: () => Promise.resolve() },
  artifacts: createArtifacts({ root: join(home, 'artifacts') }),
  log: (level, message, details) => {
    if (level !== 'info') process.stderr.write(`${level}: ${message} ${JSON.stringify(details)}\n`);
  },
});
const { port } = await server.start();
process.stdout.write(`${JSON.stringify({ port })}\n`);
process.on('SIGTERM', () => {
  void server.stop().then(() => process.exit(0));
});
