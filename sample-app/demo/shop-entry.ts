/** The shop as the demonstration runs it: it ends when the demonstration does, in whatever way that went. */
process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.channel?.unref();

await import('../main.js');
