import shared from '../../jest.config.mjs';

process.env['NEST_MAJOR'] = '11';

/** The end-to-end table once more, on the oldest Nest and TypeORM that are supported. @type {import('jest').Config} */
export default {
  ...shared,
  rootDir: '../..',
  testMatch: ['<rootDir>/test/e2e/**/*.spec.ts'],
  resolver: '<rootDir>/test/nest11/resolver.cjs',
};
