/**
 * The variable parts of a path. They are taken where they stand, undecoded, so a thing has one spelling; and their shape is looked
 * at before anything else, so what could not exist costs no query.
 */
import { parseTilePath } from '../audit/tiles.ts';

/** The variable parts of one path, exactly as they stand in the URL. */
export interface PathParts {
  readonly tenant: string | undefined;
  /** Name of the other part in the template; absent where there is none. */
  readonly name?: string;
  /** The other part; empty where there is none. */
  readonly id: string;
}

interface Part {
  /** Takes the rest of the path, slashes included. */
  readonly rest: boolean;
  readonly fits: (text: string) => boolean;
}

const TENANT_ID = /^ten_[a-z2-7]{26}$/;
const THING_ID = /^(?:prn|ckey)_[a-z2-7]{26}$/;
const EVENT_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** What may stand in a template besides `{tenant}`. */
const PARTS: Readonly<Record<string, Part>> = {
  id: { rest: false, fits: (text) => THING_ID.test(text) },
  eid: { rest: false, fits: (text) => EVENT_ID.test(text) },
  tile: { rest: true, fits: (text) => parseTilePath(`tile/${text}`) !== undefined },
};

/** Whether the parts could exist at all. Text of any other shape, percent signs included, is the same 404 without a look. */
export function wellFormed({ tenant, name = 'id', id }: PathParts): boolean {
  if (tenant !== undefined && !TENANT_ID.test(tenant)) return false;
  return id === '' || PARTS[name]?.fits(id) === true;
}

/** The template in the router's words. */
export function patternOf(template: string): string {
  return template.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
    PARTS[name]?.rest === true ? `*${name}` : `:${name}`,
  );
}

/** Reads the parts of a path that the template's pattern has matched. */
export function partsOf(template: string): (path: string) => PathParts {
  const names = template.split('/');
  const tenantAt = names.indexOf('{tenant}');
  const at = names.findIndex((each) => each.startsWith('{') && each !== '{tenant}');
  const name = names[at]?.slice(1, -1);
  return (path) => {
    const segments = path.split('/');
    const tenant = tenantAt === -1 ? undefined : segments[tenantAt];
    if (name === undefined) return { tenant, id: '' };
    const id = PARTS[name]?.rest === true ? segments.slice(at).join('/') : (segments[at] ?? '');
    return { tenant, name, id };
  };
}
