/** `node --import leash.ts …`: the process ends with its standard input, so that it cannot outlive whoever started it. */
process.stdin.resume();
process.stdin.once('end', () => process.kill(process.pid, 'SIGKILL'));
