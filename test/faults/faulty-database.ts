/** A database whose single statements fail, lose their answer or hang, as a test says. */
import type { Database } from '../../src/store/db.ts';
import { storeFailure } from '../../src/store/faults.ts';
import { openDatabase } from '../../src/store/open.ts';

/** What the service does with its database while it serves one use. */
export type Step = 'authenticate' | 'read' | 'intent' | 'outcome';

export type Fault =
  /** The statement does not run. `code`: SQLSTATE or socket error. */
  | { readonly kind: 'refuse'; readonly code: string; readonly times?: number }
  /** The statement takes effect, and its answer never comes. */
  | { readonly kind: 'lose'; readonly times?: number }
  | { readonly kind: 'hang' };

export interface FaultyDatabase {
  readonly open: typeof openDatabase;
  /** From now on, until {@link FaultyDatabase.heal}. */
  arm(step: Step, fault: Fault): void;
  /** Everything works again; what hangs fails now. */
  heal(): void;
}

const UNIT_INTENT = '1';
const UNIT_OUTCOME = '2';

function isStep(step: Step, params: readonly unknown[] | undefined, name: string | undefined): boolean {
  if (step === 'authenticate') return name === 'read_principals';
  if (step === 'read') return name === 'round_read';
  return (
    name === 'log_append' && String(params?.[6]).includes(step === 'intent' ? UNIT_INTENT : UNIT_OUTCOME)
  );
}

export function faultyDatabase(): FaultyDatabase {
  let armed: { step: Step; fault: Fault; left: number } | undefined;
  let hanging: ((error: unknown) => void)[] = [];
  const lost = () => storeFailure({ code: 'ECONNRESET' });
  return {
    async open(...args) {
      const database: Database = await openDatabase(...args);
      return {
        ...database,
        async query(text, params, name) {
          if (armed === undefined || armed.left === 0 || !isStep(armed.step, params, name))
            return database.query(text, params, name);
          armed.left -= 1;
          const { fault } = armed;
          if (fault.kind === 'refuse') throw storeFailure({ code: fault.code });
          if (fault.kind === 'hang') return new Promise((_, reject) => hanging.push(reject));
          await database.query(text, params, name);
          throw lost();
        },
      };
    },
    arm(step, fault) {
      const times = fault.kind === 'hang' ? undefined : fault.times;
      armed = { step, fault, left: times ?? Number.POSITIVE_INFINITY };
    },
    heal() {
      armed = undefined;
      for (const reject of hanging) reject(lost());
      hanging = [];
    },
  };
}
