/** An import that fails in the middle goes on behind what is done. */
import { isTo, total } from '../words.js';

/** @import { Story } from '../types.js' */

const PRODUCTS = 250;

/** In the second of three batches. */
const UNLUCKY = 149;

/** @type {Story} */
export const imports = {
  name: 'imports',
  title: 'Bulk import',
  sentence:
    'Two hundred and fifty products in batches of a hundred, each a phase of its own: what is done is recorded with its rows. When the supplier’s ' +
    'price service fails in the middle, a retry goes on behind the last finished batch.',
  requests: [
    {
      name: 'import',
      title: 'Import',
      keyed: true,
      fresh: 'New key',
      choice: {
        label: 'The supplier',
        options: [
          { value: 'down-once', title: 'is down in the middle of the first try' },
          { value: 'up', title: 'is there' },
        ],
      },
      compose: ({ id }, { choice }) => ({ method: 'POST', path: '/imports', body: listOf(id.slice(0, 4).toUpperCase(), choice) }),
      otherBody: (body) => ({ products: Array.isArray(body['products']) ? body['products'].slice(0, -1) : [] }),
    },
  ],
  tally({ round, news }) {
    const rows = total(news('products'), 'rows');
    const wanted = PRODUCTS * round.wants.size;
    const billed = news('supplier_inquiries').filter(isTo('outcome', 'quoted')).length;
    return {
      headline: `${rows} of ${wanted} rows`,
      detail: rows > wanted ? `${rows - wanted} products are there twice.` : `The supplier bills ${billed} inquiries.`,
      verdict: rows > wanted ? 'bad' : rows < wanted ? 'open' : 'good',
    };
  },
};

/**
 * One product a line, as a spreadsheet would give it.
 *
 * @param {string} prefix of the SKUs, so that each round has products of its own
 * @param {string} choice
 */
function listOf(prefix, choice) {
  const lines = Array.from({ length: PRODUCTS }, (_, index) => {
    const number = String(index + 1).padStart(3, '0');
    const sku = choice === 'down-once' && index === UNLUCKY ? `DOWN-ONCE-${prefix}` : `${prefix}-${number}`;
    return `  ${JSON.stringify({ sku, name: `Part ${number}` })}`;
  });
  return `{ "products": [\n${lines.join(',\n')}\n] }`;
}
