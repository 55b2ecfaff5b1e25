/** An order is placed once: by a key, or by an id that the client has made up. */
import { counted } from '../words.js';

/** @import { Story } from '../types.js' */

/** @param {Record<string, unknown>} body */
const moreOfIt = (body) => ({ ...body, quantity: 5 });

/** @type {Story} */
export const orders = {
  name: 'orders',
  title: 'Orders',
  sentence:
    'A POST needs a key to be safe to repeat; left empty, each request is an order of its own. A PUT under an id that the client has made up ' +
    'needs none: it says where the order is to be, and the unique constraint says whether it is there.',
  requests: [
    {
      name: 'post',
      title: 'POST with a key',
      keyed: true,
      fresh: 'New key',
      compose: () => ({ method: 'POST', path: '/orders', body: { item: 'A kettle', quantity: 1 } }),
      otherBody: moreOfIt,
    },
    {
      name: 'put',
      title: 'PUT with your own id',
      keyed: false,
      fresh: 'New id',
      onlyProtected: true,
      naturalKey: ({ id }) => id,
      compose: ({ id }) => ({ method: 'PUT', path: `/orders/${id}`, body: { item: 'A broom', quantity: 1 } }),
      otherBody: moreOfIt,
    },
  ],
  tally({ round, news }) {
    const placed = news('orders').length;
    return {
      headline: placed === 0 ? 'No order' : counted(placed, 'order'),
      detail: `The client wanted ${round.wants.size}.`,
      verdict: placed > round.wants.size ? 'bad' : placed === 0 ? 'open' : 'good',
    };
  },
};
