import type { Route, ServedVersion } from '../contracts/routes.ts';
import { modelFolderFiles, readModelFolder } from '../store/model-folder.ts';
import type { ServingLog } from './ports.ts';
import { createPredictionServer, type PredictionServer } from './server.ts';

export interface FolderServerDeps {
  /** An exported model. */
  readonly folder: string;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Where labels that are sent back are kept. */
  readonly home: string;
  readonly token?: string | undefined;
  readonly hashKey?: string | undefined;
  readonly log: ServingLog;
}

/** The prediction server with one exported model, as the endpoint of the model's name: no store, no other process. */
export async function createFolderServer({ folder, ...deps }: FolderServerDeps): Promise<PredictionServer> {
  const manifest = await readModelFolder(folder);
  const { model, version, predictor, decisions } = manifest;
  const champion: ServedVersion = { model, version, predictor, ...(decisions === undefined ? {} : { decisions }) };
  const route: Route = { endpoint: model, epoch: 1, champion, challenger: null, log: false };
  return createPredictionServer({
    ...deps,
    serverId: 'model',
    serverVersion: manifest.exportedBy,
    artifacts: modelFolderFiles(folder, manifest),
    routes: { listRoutes: () => Promise.resolve([route]) },
    registry: { heartbeat: () => Promise.resolve(), leave: () => Promise.resolve() },
    stats: { add: () => Promise.resolve(), addBreak: () => Promise.resolve() },
  });
}
