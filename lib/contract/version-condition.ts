/**
 * Which versions of a row a change may meet: one, one of several, or `'*'` for whichever is there. An
 * empty list is a condition that nothing meets.
 */
export type VersionCondition = number | number[] | '*';
