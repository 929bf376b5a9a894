// Plain JavaScript, so that an older Node can say what it lacks instead of failing on the first type.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    `Keytether runs its TypeScript directly, which needs Node 22.18 or newer; this is ${process.versions.node}.\n` +
      'On Linux, `npm install` brings its own Node 24: start it with `npm start`. Elsewhere, install Node 24.\n',
  );
  process.exit(1);
}
await import('./main.ts');
