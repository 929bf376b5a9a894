/** What a reconciliation can say of one record. The names stand in reports, in the API and in the log. */

/** Classes of a call of ours. `resolved-unknown`: we could not say how it ended, their log does, or shows that it never arrived. */
export const OUR_CLASSES = [
  'matched',
  'resolved-unknown',
  'ours-only',
  'conflict',
  'duplicate',
  'pending',
  'not-coverable',
  'outside',
] as const;
/** Classes of an event of theirs. `management` uses no key; `other-keys` names no key of this log; `outside` was asked to be left out. */
export const THEIR_CLASSES = [
  'matched',
  'resolved-unknown',
  'theirs-only',
  'conflict',
  'duplicate',
  'not-coverable',
  'provider',
  'management',
  'other-keys',
  'outside',
] as const;
export type OurClass = (typeof OUR_CLASSES)[number];
export type TheirClass = (typeof THEIR_CLASSES)[number];
