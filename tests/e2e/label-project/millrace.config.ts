import type { ProjectSettings } from '../../../config/define-config.ts';

export default { alerts: { channels: [{ kind: 'slack', urlVariable: 'LABEL_TEST_ALERTS' }] } } satisfies ProjectSettings;
