// Has the SDK download Temporal's program into the folder named as argument. A process of its own, because the SDK's
// download can neither be cancelled nor given a time limit.
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { TEMPORAL_CLI_VERSION } from './temporal-binary.ts';

const [downloadDir = '.'] = process.argv.slice(2);
const environment = await TestWorkflowEnvironment.createLocal({
  server: { executable: { type: 'cached-download', downloadDir, version: `v${TEMPORAL_CLI_VERSION}` }, ip: '127.0.0.1' },
});
await environment.teardown();
