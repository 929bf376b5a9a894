/** A body that POST …/log/reconciliations takes. */
export const RECONCILED = {
  window: { from: '2026-01-02T03:00:00Z', until: '2026-01-02T04:00:00Z' },
  gaps: [{ from: '2026-01-02T03:10:00Z', until: '2026-01-02T03:20:00Z' }],
  counts: {
    ours: {
      matched: 7,
      'resolved-unknown': 1,
      'ours-only': 0,
      conflict: 0,
      duplicate: 0,
      pending: 2,
      'not-coverable': 0,
      outside: 0,
    },
    theirs: {
      matched: 7,
      'resolved-unknown': 1,
      'theirs-only': 1,
      conflict: 0,
      duplicate: 0,
      'not-coverable': 0,
      provider: 1,
      management: 3,
      'other-keys': 12,
      outside: 0,
    },
    malformed: 0,
  },
  inputs: [
    { side: 'ours', sha256: Buffer.alloc(32, 1).toString('base64'), bytes: 4096 },
    { side: 'theirs', sha256: Buffer.alloc(32, 2).toString('base64'), bytes: 8192 },
  ],
};
