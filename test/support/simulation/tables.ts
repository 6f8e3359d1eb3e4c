import {
  type AnyDocument,
  type AnyTables,
  type AudienceRules,
  type MirrorRules,
  type Movement,
  mirror,
  negate,
  type PublishRules,
  type RegisterName,
  type SubscribeRules,
  stockMovements,
} from '../../../src/index.ts'

/** A till's tables, on either kind of database. `customer_no` is another for each sale that was ever made, and stays: by it what was posted is told apart. */
export const TILL_TABLES = `
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL, customer_no TEXT NOT NULL, status TEXT NOT NULL);
  CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL, item_no TEXT NOT NULL, quantity INTEGER NOT NULL);
  CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id);
  CREATE TABLE items (item_no VARCHAR(9) PRIMARY KEY, name TEXT NOT NULL, price INTEGER NOT NULL);
  CREATE TABLE item_barcodes (barcode VARCHAR(9) PRIMARY KEY, item_no VARCHAR(9) NOT NULL);
  CREATE INDEX item_barcodes_item_no ON item_barcodes (item_no);
  CREATE TABLE offers (id INTEGER PRIMARY KEY, price_group TEXT NOT NULL, price INTEGER NOT NULL);
  CREATE TABLE internal_orders (id INTEGER PRIMARY KEY, note TEXT NOT NULL, status TEXT DEFAULT 'new');
  CREATE TABLE internal_order_lines (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, quantity INTEGER NOT NULL, confirmed INTEGER);
  CREATE INDEX internal_order_lines_order_id ON internal_order_lines (order_id);
`

/** Head office's copies, and a ledger in which nothing can be changed. */
export const CENTRAL_TABLES = `
  CREATE TABLE receipts (location text, register text, id bigint, receipt_no text NOT NULL, customer_no text NOT NULL, status text NOT NULL,
    PRIMARY KEY (location, register, id));
  CREATE TABLE receipt_lines (location text, register text, id bigint, receipt_id bigint NOT NULL, item_no text NOT NULL, quantity bigint NOT NULL,
    PRIMARY KEY (location, register, id), FOREIGN KEY (location, register, receipt_id) REFERENCES receipts);
  CREATE INDEX ON receipt_lines (location, register, receipt_id);
  CREATE TABLE items (item_no text PRIMARY KEY, name text NOT NULL, price bigint NOT NULL);
  CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no text NOT NULL REFERENCES items ON DELETE CASCADE);
  CREATE INDEX ON item_barcodes (item_no);
  CREATE TABLE assortments (register text, item_no text, PRIMARY KEY (register, item_no));
  CREATE INDEX ON assortments (item_no);
  CREATE TABLE offers (id bigint PRIMARY KEY, price_group text NOT NULL, price bigint NOT NULL);
  CREATE TABLE internal_orders (location text, register text, id bigint, note text NOT NULL, status text DEFAULT 'new', PRIMARY KEY (location, register, id));
  CREATE TABLE internal_order_lines (location text, register text, id bigint, order_id bigint NOT NULL, quantity bigint NOT NULL, confirmed bigint,
    PRIMARY KEY (location, register, id));
  CREATE INDEX ON internal_order_lines (location, register, order_id);
`
export const NEVER_CHANGED = `
  CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a row of % is never changed', TG_TABLE_NAME; END $$;
  CREATE TRIGGER kept BEFORE UPDATE OR DELETE ON stock_movements FOR EACH ROW EXECUTE FUNCTION refuse();
  CREATE TRIGGER kept BEFORE UPDATE OR DELETE ON sync_postings FOR EACH ROW EXECUTE FUNCTION refuse();
  CREATE TRIGGER kept BEFORE UPDATE ON sync_archive FOR EACH ROW EXECUTE FUNCTION refuse();
`

/** @param orders whether orders go up, of which head office writes the status */
export function publishRules(identity: boolean, orders = false): PublishRules<AnyTables> {
  return {
    ...(orders && {
      internal_orders: { except: ['status'] },
      internal_order_lines: { partOf: { internal_orders: { order_id: 'id' } }, except: ['confirmed'] },
    }),
    receipts: { where: (eb) => eb('status', '<>', 'open'), ...(identity && { identity: ['customer_no'] }) },
    receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
  }
}

/** What a register gets is chosen by a table that says who has what, and by an attribute of the register's. */
export const AUDIENCES: AudienceRules<AnyTables> = {
  items: {
    where: (eb, { register }) =>
      eb.exists(
        eb
          .selectFrom('assortments')
          .select('assortments.item_no')
          .whereRef('assortments.item_no', '=', 'items.item_no')
          .where('assortments.register', '=', register),
      ),
    dependsOn: { assortments: { item_no: 'item_no' } },
  },
  item_barcodes: { partOf: { items: { item_no: 'item_no' } } },
  offers: { where: (eb, { attributes }) => eb('price_group', '=', attributes.group as string) },
  internal_orders: { only: ['status'], origin: ['location', 'register'] },
  internal_order_lines: { partOf: { internal_orders: { location: 'location', register: 'register', order_id: 'id' } }, only: ['confirmed'] },
}

/** What a till has of it. */
export const MIRRORS: MirrorRules<AnyTables> = {
  offers: mirror(),
  items: mirror(),
  internal_orders: mirror({ only: ['status'], rows: 'update' }),
  internal_order_lines: mirror({ only: ['confirmed'], rows: 'update' }),
}

/** What the mapping makes of a quantity. */
export interface Mapping {
  factor: number
}

export function subscribeRules(mapping: Mapping): SubscribeRules<AnyTables> {
  return {
    receipts: [mirror({ origin: ['location', 'register'] }), stockMovements((receipt, origin) => movements(receipt, origin, mapping))],
    internal_orders: mirror({ except: ['status'], origin: ['location', 'register'], removals: 'apply' }),
    internal_order_lines: mirror({ except: ['confirmed'] }),
  }
}

function movements(receipt: AnyDocument, { location }: RegisterName, { factor }: Mapping): Movement[] {
  if (receipt.status === 'voided') return []
  return (receipt.parts.receipt_lines ?? []).map((line) => ({
    item: line.item_no,
    location,
    document: receipt.receipt_no,
    customer: receipt.customer_no,
    quantity: negate(BigInt(line.quantity) * BigInt(factor)),
    amount: '0',
  }))
}
