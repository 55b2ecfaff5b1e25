import shared from '../../jest.config.mjs';

/** What is published, as its users get it. Needs `npm run build` before. @type {import('jest').Config} */
export default { ...shared, rootDir: '../..', testMatch: ['<rootDir>/test/package/*.spec.ts'] };
