import { type AlertsStore, createAlertsStore } from './alerts.ts';
import { type AuditStore, createAuditStore } from './audit.ts';
import { type ApprovalsStore, createApprovalsStore } from './approvals.ts';
import { type ArtifactFilesStore, createArtifactFilesStore } from './artifact-files.ts';
import { type BuildsStore, createBuildsStore } from './builds.ts';
import { type CommentsStore, createCommentsStore } from './comments.ts';
import { openDatabase } from './database.ts';
import { createDatasetsStore, type DatasetsStore } from './datasets.ts';
import { createExperimentsStore, type ExperimentsStore } from './experiments.ts';
import { createLoggedModelsStore, type LoggedModelsStore } from './logged-models.ts';
import { createTrackedRunsStore, type TrackedRunsStore } from './tracked-runs.ts';
import { type DriverErrorLog, fromDriver, guarded } from './driver-errors.ts';
import { createEndpointsStore, type EndpointsStore } from './endpoints.ts';
import { createEndpointReportsStore, type EndpointReportsStore } from './endpoint-reports.ts';
import { createFeatureViewsStore, type FeatureViewsStore } from './feature-views.ts';
import { createFeedbackStore, type FeedbackStore } from './feedback.ts';
import { createImportsStore, type ImportsStore } from './imports.ts';
import { createLabelsStore, type LabelsStore } from './labels.ts';
import { createLineageStore, type LineageStore } from './lineage.ts';
import { createMetricsStore, type MetricsStore } from './metrics.ts';
import { isSchemaCurrent, migrate } from './migrate.ts';
import { createMlflowMirrorStore, type MlflowMirrorStore } from './mlflow-mirror.ts';
import { createModelsStore, type ModelsStore } from './models.ts';
import { createMonitoringStore, type MonitoringStore } from './monitoring.ts';
import { createOpenLineageStore, type OpenLineageStore } from './open-lineage.ts';
import { createPredictionSetsStore, type PredictionSetsStore } from './prediction-sets.ts';
import { createRegistryStore, type RegistryStore } from './registry.ts';
import { createRetrainTriggersStore, type RetrainTriggersStore } from './retrain-triggers.ts';
import { createRetrainingStore, type RetrainingStore } from './retraining.ts';
import { createRolloutsStore, type RolloutsStore } from './rollouts.ts';
import { createRunSearch, type RunSearch } from './run-search.ts';
import { createRunsStore, type RunsStore } from './runs.ts';
import { createServersStore, type ServersStore } from './servers.ts';
import { createServingStatsStore, type ServingStatsStore } from './serving-stats.ts';
import { createStagesStore, type StagesStore } from './stages.ts';
import { createTokensStore, type TokensStore } from './tokens.ts';
import { createUndosStore, type UndosStore } from './undos.ts';

/** What was learned, in Postgres. Every method fails with a `MillraceError` and nothing else. */
export interface Store {
  readonly runs: RunsStore;
  readonly runSearch: RunSearch;
  /** Runs, experiments and logged models as MLflow's clients see them. */
  readonly trackedRuns: TrackedRunsStore;
  readonly experiments: ExperimentsStore;
  readonly loggedModels: LoggedModelsStore;
  readonly imports: ImportsStore;
  readonly stages: StagesStore;
  readonly datasets: DatasetsStore;
  readonly models: ModelsStore;
  readonly registry: RegistryStore;
  readonly artifactFiles: ArtifactFilesStore;
  readonly endpoints: EndpointsStore;
  readonly endpointReports: EndpointReportsStore;
  readonly rollouts: RolloutsStore;
  readonly servers: ServersStore;
  readonly stats: ServingStatsStore;
  readonly approvals: ApprovalsStore;
  readonly undos: UndosStore;
  readonly metrics: MetricsStore;
  readonly retraining: RetrainingStore;
  readonly retrainTriggers: RetrainTriggersStore;
  readonly monitoring: MonitoringStore;
  readonly builds: BuildsStore;
  readonly predictionSets: PredictionSetsStore;
  readonly labels: LabelsStore;
  readonly featureViews: FeatureViewsStore;
  readonly feedback: FeedbackStore;
  readonly alerts: AlertsStore;
  readonly lineage: LineageStore;
  readonly openLineage: OpenLineageStore;
  readonly mlflowMirror: MlflowMirrorStore;
  readonly tokens: TokensStore;
  readonly audit: AuditStore;
  readonly comments: CommentsStore;
  /** Applies missing migrations, and answers with their names. @throws SCHEMA_TOO_NEW */
  readonly migrate: () => Promise<readonly string[]>;
  /** Never throws: whether Postgres answers, and whether its schema is this Millrace's. */
  readonly health: () => Promise<StoreHealth>;
  readonly close: () => Promise<void>;
}

export interface StoreHealth {
  readonly reachable: boolean;
  readonly schemaCurrent: boolean;
  /** Why not, in one sentence; empty when all is well. */
  readonly problem: string;
}

export interface StoreOptions {
  readonly databaseUrl: string;
  /** Connections at most. Default 10. */
  readonly poolSize?: number;
  /** Is given what the driver said, with the operation; nobody else sees it. Default: nothing is logged. */
  readonly log?: DriverErrorLog;
}

/** Opens the store. Nothing is connected before the first call. */
export function openStore({ databaseUrl, poolSize, log }: StoreOptions): Store {
  const database = openDatabase({
    databaseUrl,
    ...(poolSize === undefined ? {} : { poolSize }),
    onIdleError: (error) => log?.('idle connection', error),
  });
  let closing: Promise<void> | undefined;
  return {
    runs: guarded('runs', createRunsStore(database), log),
    runSearch: guarded('runSearch', createRunSearch(database), log),
    trackedRuns: guarded('trackedRuns', createTrackedRunsStore(database), log),
    experiments: guarded('experiments', createExperimentsStore(database), log),
    loggedModels: guarded('loggedModels', createLoggedModelsStore(database), log),
    imports: guarded('imports', createImportsStore(database), log),
    stages: guarded('stages', createStagesStore(database), log),
    datasets: guarded('datasets', createDatasetsStore(database), log),
    models: guarded('models', createModelsStore(database), log),
    registry: guarded('registry', createRegistryStore(database), log),
    artifactFiles: guarded('artifactFiles', createArtifactFilesStore(database), log),
    endpoints: guarded('endpoints', createEndpointsStore(database), log),
    endpointReports: guarded('endpointReports', createEndpointReportsStore(database), log),
    rollouts: guarded('rollouts', createRolloutsStore(database), log),
    servers: guarded('servers', createServersStore(database), log),
    stats: guarded('stats', createServingStatsStore(database), log),
    approvals: guarded('approvals', createApprovalsStore(database), log),
    undos: guarded('undos', createUndosStore(database, log), log),
    metrics: guarded('metrics', createMetricsStore(database), log),
    retraining: guarded('retraining', createRetrainingStore(database), log),
    retrainTriggers: guarded('retrainTriggers', createRetrainTriggersStore(database), log),
    monitoring: guarded('monitoring', createMonitoringStore(database), log),
    builds: guarded('builds', createBuildsStore(database), log),
    predictionSets: guarded('predictionSets', createPredictionSetsStore(database), log),
    labels: guarded('labels', createLabelsStore(database), log),
    featureViews: guarded('featureViews', createFeatureViewsStore(database), log),
    feedback: guarded('feedback', createFeedbackStore(database), log),
    alerts: guarded('alerts', createAlertsStore(database), log),
    lineage: guarded('lineage', createLineageStore(database), log),
    openLineage: guarded('openLineage', createOpenLineageStore(database), log),
    mlflowMirror: guarded('mlflowMirror', createMlflowMirrorStore(database), log),
    tokens: guarded('tokens', createTokensStore(database), log),
    audit: guarded('audit', createAuditStore(database), log),
    comments: guarded('comments', createCommentsStore(database), log),
    async migrate() {
      try {
        return await migrate(databaseUrl);
      } catch (error) {
        throw fromDriver('migrate', error, log);
      }
    },
    async health() {
      try {
        const schemaCurrent = await isSchemaCurrent(database.pool);
        return { reachable: true, schemaCurrent, problem: schemaCurrent ? '' : 'The schema of the database is older than this Millrace.' };
      } catch (error) {
        const mapped = fromDriver('health', error, log);
        return { reachable: mapped.code === 'SCHEMA_TOO_NEW', schemaCurrent: false, problem: mapped.message };
      }
    },
    close() {
      closing ??= database.pool.end();
      return closing;
    },
  };
}
