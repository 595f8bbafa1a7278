package markethistory

import (
	"context"

	"github.com/markethistory/markethistory/clients/go/historyv1"
)

// Coverage returns spans that tile a window of a series, ascending, without holes or overlaps. A zero window is all of
// time up to now. It never asks the exchange.
func (c *Client) Coverage(ctx context.Context, series string, window Range) ([]CoverageSpan, error) {
	answer, err := c.service.Coverage(ctx, &historyv1.CoverageRequest{Series: series, Range: window.message()})
	if err != nil {
		return nil, errorOf(ctx, err)
	}
	return spansOf(answer.GetSpans()), nil
}
