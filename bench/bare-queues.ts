export const BARE_WORKFLOWS = 'bare';
/** Activities on another queue than their workflow's, as with pools: no eager execution. */
export const BARE_ACTIVITIES = 'bare-activities';
