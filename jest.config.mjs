process.env['NEST_MAJOR'] ??= '12';

/** @type {import('jest').Config} */
export default {
  testEnvironment: 'node',
  testTimeout: 20_000, // what hangs is found all the same, and what a busy machine makes slow is no failure
  workerGracefulExitTimeout: 20_000, // a worker that has gone through hundreds of specs takes its time to end; one with something left open never does
  maxWorkers: 2, // one Postgres serves all of them: two keep it and a small machine busy
  roots: ['<rootDir>/test', '<rootDir>/lib', '<rootDir>/migrations'],
  testMatch: ['<rootDir>/test/{unit,postgres,e2e,processes,crash,model,browser}/**/*.spec.ts'],
  modulePathIgnorePatterns: ['<rootDir>/test/nest11/node_modules'],
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: {
          target: 'es2022',
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true },
          keepClassNames: true,
        },
        module: { type: 'es6' },
        sourceMaps: 'inline',
      },
    ],
  },
  globalSetup: '<rootDir>/test/support/global-setup.mjs',
  globalTeardown: '<rootDir>/test/support/global-teardown.mjs',
  collectCoverageFrom: ['lib/**/*.ts'],
  coverageProvider: 'v8',
};
