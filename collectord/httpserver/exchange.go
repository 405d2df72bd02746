package httpserver

import (
	"time"

	"collectord/collectord/http1"
	"collectord/wal"
)

// next processes the received bytes as far as possible, and returns the step that it
// needs next.
//
//	bytes -> header -> body -> whole -> prepare -> append -> stored -> answer -> written
//
// A request that is rejected, or is not a POST of usages, goes from header or body
// directly to its answer.
func (c *conn) next() step {
	for {
		switch {
		case len(c.out) > 0:
			return stepWrite
		case c.ended:
			return stepEnd
		case c.todo != stepRead:
			todo := c.todo
			c.todo = stepRead
			return todo
		}
		e, body, n := c.http.Next(c.in[c.from:])
		c.from += n
		switch e {
		case http1.More:
			if p := c.await(); p != nil {
				c.reject(p)
				continue
			}
			return stepRead
		case http1.Header:
			c.header()
		case http1.Body:
			c.body(body)
		case http1.End:
			c.whole()
		case http1.Bad:
			c.reject(c.server.badRequest(c.http.Fault()))
		}
	}
}

// await begins the state in which more bytes are expected. Bytes of a request's body are
// read directly into the body where possible, others into memory of the driver.
func (c *conn) await() *problem {
	if c.from == len(c.in) {
		c.in, c.from = c.in[:0], 0
	}
	switch c.http.State() {
	case http1.Start, http1.Fields:
		switch {
		case len(c.in) > 0:
			c.beginRequest()
		case c.state == stateIdle:
			c.endIfClosing() // an empty line has arrived meanwhile
		}
	default:
		c.enter(stateBody)
	}
	c.direct = c.request != nil && c.http.State() == http1.Fixed // by now all of in is consumed
	if c.direct {
		room, err := c.server.bodyRoom(c.request, int(c.http.BodyLeft()))
		if err != nil {
			return c.server.unreadable(err)
		}
		c.space = room
	}
	return nil
}

// makeSpace allocates memory for the next read, behind the bytes that are not consumed.
func (c *conn) makeSpace() {
	if c.from > 0 {
		c.in = c.in[:copy(c.in, c.in[c.from:])]
		c.from = 0
	}
	if len(c.in) == cap(c.in) {
		size := firstRead
		if cap(c.in) > 0 {
			size = max(c.server.opts.MaxHeader, firstRead) // at most MaxHeader bytes stay unconsumed
		}
		c.in = append(make([]byte, 0, size), c.in...)
	}
	c.space = c.in[len(c.in):cap(c.in)]
}

// firstRead is the size of the first buffer for reads, in bytes.
const firstRead = 2 << 10

// beginRequest leaves the states without a request.
func (c *conn) beginRequest() {
	switch c.state {
	case stateIdle:
		c.enter(stateHeader)
	case stateOpening:
		c.carryOn(stateHeader) // the first request's time began with the connection
	}
}

// received processes the result of a read into space.
func (c *conn) received(n int, err error) {
	switch {
	case n > 0 && c.direct:
		c.http.Next(c.space[:n]) // the piece is already in the body
		c.arrived += n
		c.request.arriving = c.request.arriving[:len(c.request.arriving)+n]
	case n > 0:
		c.in = c.in[:len(c.in)+n]
	case err != nil:
		c.stopped(err)
	}
	c.space = nil
}

// stopped ends a connection after a failed read or a passed deadline.
func (c *conn) stopped(err error) {
	late, cut := isTimeout(err), c.hold.Load() == taken
	switch {
	case c.state == stateIdle, c.state == stateOpening && (!late || !cut && c.isLast()):
		c.ended = true
	case late && cut:
		c.reject(noRoom())
	case late:
		c.reject(c.server.tooSlow())
	default:
		c.reject(badFraming("the request is broken off"))
	}
}

// header processes a complete header: it rejects the request, answers it, or begins to
// read its body.
func (c *conn) header() {
	c.began, c.arrived = c.now(), 0
	q := c.http.Request()
	c.route = c.server.routeOf(q)
	h, p := readHeader(q)
	if c.route != routeUsages {
		left := c.http.BodyLeft()
		switch {
		case p != nil:
			c.reject(p)
		case q.ExpectsContinue, left < 0, left > maxIgnored:
			c.answerPage()
		}
		return
	}
	client, p := c.server.checkBeforeBody(c, q, &h, p)
	if p != nil {
		c.server.log.Reject(wal.HTTP, p.code, 1)
		p.close = true
		c.reject(p)
		return
	}
	c.request = c.server.requests.Get().(*request) //nolint:forcetypeassert // the pool holds nothing else
	c.sender = client
	c.request.begin(&h, client)
	if c.loop != nil {
		c.loop.lendBody(c.request)
	}
	if q.ExpectsContinue {
		c.out = c.http.AppendContinue(c.out)
		c.enter(stateWriting)
	}
}

// maxIgnored is how many bytes of an unused body are read to keep the connection open.
const maxIgnored = 1 << 10

// body stores a piece of the body.
func (c *conn) body(piece []byte) {
	if c.request == nil {
		return
	}
	c.arrived += len(piece)
	if err := c.server.keepBody(c.request, piece); err != nil {
		c.reject(c.server.unreadable(err))
	}
}

// whole continues a request that was read to its end.
func (c *conn) whole() {
	if c.request == nil {
		c.answerPage()
		return
	}
	c.enter(stateStoring)
	c.todo = stepPrepare
}

// prepare decodes the body and makes records of it. It may wait for memory, which depends
// on no client.
func (c *conn) prepare() {
	r, h := c.request, c.server
	p := h.decode(r)
	if p != nil {
		h.log.Reject(wal.HTTP, p.code, 1)
	} else {
		p = h.prepare(c, r)
	}
	switch {
	case p != nil:
		c.answerProblem(p)
	case r.again:
		c.answerStored()
	default:
		c.todo = stepAppend
	}
}

// stored answers the request, after the log has stored its records or failed with err.
func (c *conn) stored(err error) {
	if r := c.request; r != nil {
		r.settle(c.server.window, err == nil)
	}
	if err != nil {
		c.answerProblem(c.server.appendProblem(err))
		return
	}
	c.answerStored()
}

// keepID reduces a request to the id for its answer, if that is enough. Other requests
// wait for the same commit, and larger states would leave the processor's cache
// meanwhile.
func (c *conn) keepID() {
	if r := c.request; r.batch.single && !r.claimed {
		c.id = r.ids[0]
		c.release()
	}
}

// reject answers a request that is not read to its end. A POST of usages counts as one
// rejected usage.
func (c *conn) reject(p *problem) {
	if c.request != nil {
		c.server.log.Reject(wal.HTTP, p.code, 1)
	}
	p.close = true
	c.answerProblem(p)
}

func (c *conn) answerProblem(p *problem) {
	a, body := p.answer(c.server.opts.ProblemBase)
	c.answer(&a, body)
}

// answer formats an answer and releases the request's memory.
func (c *conn) answer(a *http1.Response, body []byte) {
	c.beginAnswer(a, len(body))
	switch {
	case c.http.HeaderOnly():
	case len(body) <= freeBytes:
		c.out = append(c.out, body...)
	default: // the budget stays taken until the client has the answer
		c.large = body
		c.held, c.request.held = c.request.held, allotment{}
	}
	c.endAnswer(a)
}

// beginAnswer formats the header of an answer with a body of length bytes.
func (c *conn) beginAnswer(a *http1.Response, length int) {
	h := c.server
	a.Date, a.Length = h.date.at(c.now()), length
	a.Close = a.Close || h.draining.Load() || c.isLast()
	c.unread = c.http.State() != http1.Done
	c.out = c.http.AppendResponse(c.out[:0], a)
}

// endAnswer releases the request's memory and starts writing the answer.
func (c *conn) endAnswer(a *http1.Response) {
	h := c.server
	c.release()
	h.unreserve(&c.held, cap(c.large)) // the answer remains, without the request's body
	h.statuses[a.Status].Add(1)
	if !c.began.IsZero() {
		h.took[a.Status/100].ObserveTime(c.now().Sub(c.began))
	}
	c.enter(stateWriting)
}

// written continues after the output was written, or failed with err.
func (c *conn) written(err error) {
	c.out = c.out[:0]
	c.giveBack()
	switch {
	case err != nil: // the client can't receive an answer
		c.ended, c.gone = true, true
	case !c.http.Answered(): // 100 Continue was written
		c.began = c.now()
	case c.http.Last():
		c.unread = c.unread || c.from < len(c.in) || unread(c.raw)
		c.ended = true
	default:
		c.becomeIdle()
	}
}

// becomeIdle begins the idle time between requests. Only small buffers of the previous
// request stay.
func (c *conn) becomeIdle() {
	if cap(c.out) > firstRead {
		c.out = nil
	}
	c.began = time.Time{}
	c.idleSince.Store(c.all.deadline(c.now()))
	c.hold.CompareAndSwap(kept, free)
	c.enter(stateIdle)
	c.endIfClosing() // the server may have begun to shut down after the answer's header was made
}

// endIfClosing ends an idle connection during shutdown, unless a request has arrived.
func (c *conn) endIfClosing() {
	if c.all.closing.Load() && !unread(c.raw) {
		c.end()
	}
}

// release frees what the current request holds, in any outcome.
func (c *conn) release() {
	if r := c.request; r != nil {
		r.settle(c.server.window, false)
		c.request = nil
		c.server.release(r)
	}
}

// giveBack frees the memory of a large answer.
func (c *conn) giveBack() {
	c.server.give(c.held)
	c.held, c.large = allotment{}, nil
}
