/** The tills' tables as types: what is published is checked against them. Decimals are text, exact. */
export interface TillTables {
  receipts: {
    id: number
    receipt_no: string
    series: string
    /** The till's own, 1, 2, 3 … in each series. */
    number: number
    business_date: string
    posted_at: string
    customer_no: string | null
    status: string
    net_amount: string
    vat_amount: string
    gross_amount: string
  }
  receipt_lines: {
    id: number
    receipt_id: number
    line_no: number
    item_no: string
    description: string
    quantity: string
    unit_price: string
    vat_rate: string
    net_amount: string
    vat_amount: string
    gross_amount: string
  }
  tender_lines: { id: number; receipt_id: number; line_no: number; tender: string; amount: string }
  plu_closings: { closing_no: number; business_date: string }
  plu_closing_ranges: { closing_no: number; series: string; first_no: number; last_no: number }
  /** From the warehouse. `status` and `confirmed_at` are head office's, the rest is the till's. */
  internal_orders: { id: number; ordered_on: string; status: string; confirmed_at: string | null }
  internal_order_lines: {
    id: number
    order_id: number
    line_no: number
    item_no: string
    quantity: string
    /** Head office's. */
    confirmed_quantity: string | null
  }
}

/** What head office publishes, and what its filters ask. */
export interface HeadOfficeTables {
  items: { item_no: string; description: string; unit_price: string }
  /** Which items a shop has. */
  assortments: { location: string; item_no: string }
  price_lists: { list_id: number; price_group: string; name: string }
  /** Prices that count from and until a day. */
  price_list_lines: { list_id: number; item_no: string; unit_price: string; valid_from: string; valid_to: string }
  internal_orders: TillTables['internal_orders'] & Sender
  internal_order_lines: TillTables['internal_order_lines'] & Sender
}

interface Sender {
  location: string
  register: string
}

/** A till's own schema; nothing in it is there for tillsync. */
export const TILL_SCHEMA = `
  CREATE TABLE IF NOT EXISTS receipts (
    id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL, series TEXT NOT NULL, number INTEGER NOT NULL, business_date TEXT NOT NULL,
    posted_at TEXT NOT NULL, customer_no TEXT, status TEXT NOT NULL, net_amount TEXT NOT NULL, vat_amount TEXT NOT NULL, gross_amount TEXT NOT NULL,
    UNIQUE (series, number)
  );
  CREATE TABLE IF NOT EXISTS receipt_lines (
    id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts, line_no INTEGER NOT NULL, item_no TEXT NOT NULL,
    description TEXT NOT NULL, quantity TEXT NOT NULL, unit_price TEXT NOT NULL, vat_rate TEXT NOT NULL,
    net_amount TEXT NOT NULL, vat_amount TEXT NOT NULL, gross_amount TEXT NOT NULL
  );
  CREATE INDEX IF NOT EXISTS receipt_lines_of_receipt ON receipt_lines (receipt_id);
  CREATE TABLE IF NOT EXISTS tender_lines (
    id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts, line_no INTEGER NOT NULL, tender TEXT NOT NULL, amount TEXT NOT NULL
  );
  CREATE INDEX IF NOT EXISTS tender_lines_of_receipt ON tender_lines (receipt_id);
  CREATE TABLE IF NOT EXISTS plu_closings (closing_no INTEGER PRIMARY KEY, business_date TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS plu_closing_ranges (
    closing_no INTEGER REFERENCES plu_closings, series TEXT, first_no INTEGER NOT NULL, last_no INTEGER NOT NULL, PRIMARY KEY (closing_no, series)
  );
  CREATE TABLE IF NOT EXISTS items (item_no TEXT NOT NULL PRIMARY KEY, description TEXT NOT NULL, unit_price TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS price_lists (list_id INTEGER PRIMARY KEY, price_group TEXT NOT NULL, name TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS price_list_lines (
    list_id INTEGER NOT NULL REFERENCES price_lists, item_no TEXT NOT NULL, unit_price TEXT NOT NULL, valid_from TEXT NOT NULL, valid_to TEXT NOT NULL,
    PRIMARY KEY (list_id, item_no)
  );
  CREATE TABLE IF NOT EXISTS internal_orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ordered_on TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'new', confirmed_at TEXT
  );
  CREATE TABLE IF NOT EXISTS internal_order_lines (
    id INTEGER PRIMARY KEY AUTOINCREMENT, order_id INTEGER NOT NULL REFERENCES internal_orders, line_no INTEGER NOT NULL, item_no TEXT NOT NULL,
    quantity TEXT NOT NULL, confirmed_quantity TEXT
  );
  CREATE INDEX IF NOT EXISTS internal_order_lines_of_order ON internal_order_lines (order_id);
`

/** Head office's own items, assortments and prices, and its copies of the tills' tables: the ids of two tills are the same numbers, so location and register belong to the key. */
export const CENTRAL_SCHEMA = `
  CREATE TABLE items (item_no text PRIMARY KEY, description text NOT NULL, unit_price numeric NOT NULL);
  CREATE TABLE assortments (location text, item_no text REFERENCES items, PRIMARY KEY (location, item_no));
  CREATE INDEX ON assortments (item_no);
  CREATE TABLE price_lists (list_id integer PRIMARY KEY, price_group text NOT NULL, name text NOT NULL);
  CREATE TABLE price_list_lines (
    list_id integer REFERENCES price_lists, item_no text REFERENCES items, unit_price numeric NOT NULL, valid_from date NOT NULL, valid_to date NOT NULL,
    PRIMARY KEY (list_id, item_no)
  );
  CREATE TABLE internal_orders (
    location text, register text, id bigint, ordered_on date NOT NULL, status text NOT NULL DEFAULT 'new', confirmed_at timestamptz,
    PRIMARY KEY (location, register, id)
  );
  CREATE TABLE internal_order_lines (
    location text, register text, id bigint, order_id bigint NOT NULL, line_no integer NOT NULL, item_no text NOT NULL,
    quantity numeric NOT NULL, confirmed_quantity numeric,
    PRIMARY KEY (location, register, id),
    FOREIGN KEY (location, register, order_id) REFERENCES internal_orders (location, register, id)
  );
  CREATE INDEX ON internal_order_lines (location, register, order_id);
  CREATE TABLE receipts (
    location text, register text, id bigint, receipt_no text NOT NULL, series text NOT NULL, number bigint NOT NULL, business_date date NOT NULL,
    posted_at timestamp NOT NULL, customer_no text, status text NOT NULL,
    net_amount numeric NOT NULL, vat_amount numeric NOT NULL, gross_amount numeric NOT NULL,
    PRIMARY KEY (location, register, id)
  );
  CREATE TABLE receipt_lines (
    location text, register text, id bigint, receipt_id bigint NOT NULL, line_no integer NOT NULL, item_no text NOT NULL,
    description text NOT NULL, quantity numeric NOT NULL, unit_price numeric NOT NULL, vat_rate numeric NOT NULL,
    net_amount numeric NOT NULL, vat_amount numeric NOT NULL, gross_amount numeric NOT NULL,
    PRIMARY KEY (location, register, id),
    FOREIGN KEY (location, register, receipt_id) REFERENCES receipts (location, register, id)
  );
  CREATE INDEX ON receipt_lines (location, register, receipt_id);
  CREATE TABLE tender_lines (
    location text, register text, id bigint, receipt_id bigint NOT NULL, line_no integer NOT NULL, tender text NOT NULL, amount numeric NOT NULL,
    PRIMARY KEY (location, register, id),
    FOREIGN KEY (location, register, receipt_id) REFERENCES receipts (location, register, id)
  );
  CREATE INDEX ON tender_lines (location, register, receipt_id);
`
