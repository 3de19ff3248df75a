/** What tests of pipelines import from `millrace/testing`. */
export { createTestEnvironment, type StageMock, type TestEnvironment, type TestEnvironmentOptions, type TestRun } from './test-environment.ts';
