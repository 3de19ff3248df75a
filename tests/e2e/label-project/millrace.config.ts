import { defineConfig } from 'millrace/config';

export default defineConfig({ alerts: { channels: [{ kind: 'slack', urlVariable: 'LABEL_TEST_ALERTS' }] } });
