// jest does not use Node's own type stripping, so this transform calls it: tests run the same text that `node` runs.
import { stripTypeScriptTypes } from 'node:module';

export default {
  process: (source) => ({ code: stripTypeScriptTypes(source) }),
};
