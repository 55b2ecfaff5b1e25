/**
 * The second leg runs the very same files. What this repository's own sources ask for by a
 * package's name is looked for from this folder, which has an older Nest; everything else is found
 * where it always is.
 */
const { dirname, join, sep } = require('node:path');

const REPOSITORY = dirname(dirname(__dirname));
const OWN = ['lib', 'migrations', 'sample-app', join('test', 'e2e'), join('test', 'support')].map((part) => join(REPOSITORY, part));

/** @typedef {{ basedir: string, defaultResolver: (request: string, options: object) => string }} ResolverOptions */

/** @param {string} request @param {ResolverOptions} options */
module.exports = function resolve(request, options) {
  const ours = !/^[./]|^node:/.test(request) && OWN.some((part) => `${options.basedir}${sep}`.startsWith(part + sep));
  const found = options.defaultResolver(request, ours ? { ...options, basedir: __dirname } : options);
  if (ours && request.startsWith('@nestjs/') && !found.startsWith(__dirname)) {
    throw new Error(`${request} is not in test/nest11/package.json, and the newer Nest's one would not fit.`);
  }
  return found;
};
