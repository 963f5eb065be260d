// Package orders reads files of real orders, and makes orders of the same shape.
//
// # Words
//
//   - A book is what a file holds: its orders, and the rows that could not be used.
//   - A cart is an invoice; a restock is a cancellation, whose invoice number begins with C. Rows of
//     one invoice belong together wherever in the file they stand; the order has the place of the
//     first of them.
//   - A line is an item of an order with its units. Rows of one invoice with the same code are merged.
//
// # The format
//
// That of the UCI data set Online Retail (D. Chen, 2015, doi 10.24432/C5BW33): comma-separated
// values, plain or compressed with gzip, with a header that names at least InvoiceNo, StockCode and
// Quantity, in any order and any case; all other columns are ignored. One row is one line of the
// file (a field in quotes may have a few line breaks). Bytes outside of ASCII do no harm in columns
// that are not read; a byte order mark is skipped.
//
// # Invariants
//
//   - Every row is either in an order or reported, by its number (the header is row 1), with
//     field, value and bound. Empty lines count for the numbers only.
//   - What is in an order passes the checks of package backends: identifiers, quantities, units of a
//     cart, number of lines. A quantity of zero or with the wrong sign is reported, not played.
//   - A broken row costs itself; a quote that is never closed costs its own row too.
//   - Memory: at most MaxRows rows of at most MaxRowBytes bytes.
//
// # The generator
//
// [Generate] is calibrated on the first 50,062 rows of that data set: 2,342 invoices, of which 85 are
// corrections of the stock by one negative row each (reported, not played) and 384 (17.0 % of the
// rest) are cancellations. Beside them what Generate(1, 2257) gives, as [Measure] takes it; [Extract]
// has the left column, and a test holds the right one, and other seeds, against it.
//
//	                                    extract      generated
//	carts                                 1,873          1,870
//	cancellations                           384            387
//	different items in carts              2,858          2,691
//	lines per cart, mean                   25.6           25.6
//	  quartiles                        4, 13, 26      4, 13, 26
//	  90, 95, 99 %                   48, 66, 439    48, 70, 468
//	  most (675 rows, two merged)           674            657
//	quantity per line, mean                9.14           8.98
//	  quartiles                         1, 3, 8        1, 2, 8
//	  90, 95, 99 %                  20, 25, 100     18, 25, 97
//	  most                                2,880          2,081
//	share in the lines of carts of
//	  the most wanted 1 % of items        8.4 %          8.2 %
//	  10 %                               41.3 %         40.8 %
//	  20 %                               60.5 %         59.7 %
//	share in the units of carts of
//	  10 % of the items                  60.4 %         61.3 %
//	lines per cancellation, mean            2.3            2.1
//	  most                                   26             26
//	quantity per line of those, median        2              2
//	  most                                9,360            535
//
// The longer a cart, the smaller its quantities (the extract's carts of one line want 74 pieces on
// average, those of more than 100 lines want 3.4 of each), and an item that sells by the dozen
// does so in every cart: the generator draws both so. It draws no seasons, no customers and no
// connection between a cancellation and the cart that it takes back.
//
// # Arrows
//
// The package imports backends, for bounds and checks.
package orders
