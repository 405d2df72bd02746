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
		case c.mustClose:
			return stepEnd
		case c.nextStep != stepRead:
			todo := c.nextStep
			c.nextStep = stepRead
			return todo
		}
		e, body, n := c.http.Next(c.in[c.consumed:])
		c.consumed += n
		switch e {
		case http1.More:
			if p := c.awaitBytes(); p != nil {
				c.reject(p)
				continue
			}
			return stepRead
		case http1.Header:
			c.handleHeader()
		case http1.Body:
			c.handleBody(body)
		case http1.End:
			c.handleEnd()
		case http1.Bad:
			c.reject(c.server.faultProblem(c.http.Fault()))
		}
	}
}

// awaitBytes begins the state in which more bytes are expected. Bytes of a request's body are
// read directly into the body if possible, all others into memory of the driver.
func (c *conn) awaitBytes() *problem {
	if c.consumed == len(c.in) {
		c.in, c.consumed = c.in[:0], 0
	}
	switch c.http.State() {
	case http1.Start, http1.Fields:
		switch {
		case len(c.in) > 0:
			c.beginRequest()
		case c.state == stateIdle:
			c.endIfShuttingDown() // an empty line has arrived meanwhile
		}
	default:
		c.enter(stateBody)
	}
	c.readsIntoBody = c.request != nil && c.http.State() == http1.Fixed // by now all of in is consumed
	if c.readsIntoBody {
		room, err := c.server.bodySpace(c.request, int(c.http.BodyLeft()))
		if err != nil {
			return c.server.bodyProblem(err)
		}
		c.readSpace = room
	}
	return nil
}

// makeReadSpace allocates memory for the next read, after the bytes that are not consumed.
func (c *conn) makeReadSpace() {
	if c.consumed > 0 {
		c.in = c.in[:copy(c.in, c.in[c.consumed:])]
		c.consumed = 0
	}
	if len(c.in) == cap(c.in) {
		size := firstReadBytes
		if cap(c.in) > 0 {
			size = max(c.server.opts.MaxHeader, firstReadBytes) // at most MaxHeader bytes stay unconsumed
		}
		c.in = append(make([]byte, 0, size), c.in...)
	}
	c.readSpace = c.in[len(c.in):cap(c.in)]
}

// firstReadBytes is the size of the first buffer for reads, in bytes.
const firstReadBytes = 2 << 10

// beginRequest enters the state header with the first byte of a request.
func (c *conn) beginRequest() {
	switch c.state {
	case stateIdle:
		c.enter(stateHeader)
	case stateOpening:
		c.enterKeepingDeadline(stateHeader) // the first request's time began with the connection
	}
}

// received processes the result of a read into readSpace.
func (c *conn) received(n int, err error) {
	switch {
	case n > 0 && c.readsIntoBody:
		c.http.Next(c.readSpace[:n]) // the piece is already in the body
		c.bodyReceived += n
		c.request.rawBody = c.request.rawBody[:len(c.request.rawBody)+n]
	case n > 0:
		c.in = c.in[:len(c.in)+n]
	case err != nil:
		c.readFailed(err)
	}
	c.readSpace = nil
}

// readFailed ends a connection after a failed read or a passed deadline.
func (c *conn) readFailed(err error) {
	timedOut, cut := isTimeout(err), c.hold.Load() == holdTaken
	switch {
	case c.dropped.Load(): // the server has closed it
		c.mustClose = true
	case c.state == stateIdle, c.state == stateOpening && (!timedOut || !cut && c.isLast()):
		c.mustClose = true
	case timedOut && cut:
		c.reject(tooManyConnectionsProblem())
	case timedOut:
		c.reject(c.server.timeoutProblem(c.state))
	default:
		c.reject(badFraming("the request is broken off"))
	}
}

// handleHeader processes a complete header: it rejects the request, answers it, or begins to
// read its body.
func (c *conn) handleHeader() {
	c.requestStart, c.bodyReceived = c.now(), 0
	q := c.http.Request()
	c.route = c.server.routeOf(q)
	h, p := readHeader(q)
	if c.route != routeUsages {
		left := c.http.BodyLeft()
		switch {
		case p != nil:
			c.reject(p)
		case q.ExpectsContinue, left < 0, left > maxDiscardedBody:
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
	c.request = c.server.requests.Get().(*request) //nolint:forcetypeassert // the pool contains only this type
	c.sender = client
	c.request.begin(&h, client)
	if c.loop != nil {
		c.loop.attachBodyBuffer(c.request)
	}
	if q.ExpectsContinue {
		c.out = c.http.AppendContinue(c.out)
		c.enter(stateWriting)
	}
}

// maxDiscardedBody is how many bytes of an unused body are read to keep the connection open.
const maxDiscardedBody = 1 << 10

// handleBody stores a piece of the body.
func (c *conn) handleBody(piece []byte) {
	if c.request == nil {
		return
	}
	c.bodyReceived += len(piece)
	if err := c.server.appendBody(c.request, piece); err != nil {
		c.reject(c.server.bodyProblem(err))
	}
}

// handleEnd continues a request that was read to its end.
func (c *conn) handleEnd() {
	if c.request == nil {
		c.answerPage()
		return
	}
	c.enter(stateStoring)
	c.nextStep = stepPrepare
}

// prepare decodes the body and makes records of it. It may wait for memory, but for no
// client.
func (c *conn) prepare() {
	r, h := c.request, c.server
	p := h.decode(r)
	if p != nil {
		h.log.Reject(wal.HTTP, p.code, 1)
	} else {
		p = h.makeRecords(c, r)
	}
	switch {
	case p != nil:
		c.answerProblem(p)
	case r.repeated:
		c.answerStored()
	default:
		c.nextStep = stepAppend
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

// reduceToID releases a request and keeps only its id, if the answer needs nothing else.
// Many requests wait for the same commit, and the processor's cache would not have room
// for all of them.
func (c *conn) reduceToID() {
	if r := c.request; r.batch.single && !r.claimed {
		c.keptID = r.ids[0]
		c.releaseRequest()
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

// rejectDropped reports the request of a dropped connection as rejected. It gets no answer.
func (c *conn) rejectDropped() {
	if c.request != nil && c.dropped.Load() {
		c.server.log.Reject(wal.HTTP, CodeOverloaded, 1)
	}
}

func (c *conn) answerProblem(p *problem) {
	a, body := p.response(c.server.opts.ProblemBase)
	c.respond(&a, body)
}

// respond formats an answer and releases the request's memory.
func (c *conn) respond(a *http1.Response, body []byte) {
	c.beginResponse(a, len(body))
	switch {
	case c.http.HeaderOnly():
	case len(body) <= unbudgetedBytes:
		c.out = append(c.out, body...)
	default: // the budget stays taken until the client has the answer
		c.largeBody = body
		c.largeReserved, c.request.reserved = c.request.reserved, reservation{}
	}
	c.finishResponse(a)
}

// beginResponse formats the header of an answer with a body of length bytes.
func (c *conn) beginResponse(a *http1.Response, length int) {
	h := c.server
	a.Date, a.Length = h.date.at(c.now()), length
	a.Close = a.Close || h.draining.Load() || c.isLast()
	c.clientMaySend = c.http.State() != http1.Done
	c.out = c.http.AppendResponse(c.out[:0], a)
}

// finishResponse releases the request's memory and starts writing the answer.
func (c *conn) finishResponse(a *http1.Response) {
	h := c.server
	c.releaseRequest()
	h.releaseExcess(&c.largeReserved, cap(c.largeBody)) // the answer remains, without the request's body
	h.statuses[a.Status].Add(1)
	if !c.requestStart.IsZero() {
		h.latencies[a.Status/100].ObserveTime(c.now().Sub(c.requestStart))
	}
	c.enter(stateWriting)
}

// written continues after the output was written, or failed with err.
func (c *conn) written(err error) {
	c.out = c.out[:0]
	c.releaseLargeBody()
	switch {
	case err != nil: // the client can't receive an answer
		c.mustClose, c.unwritable = true, true
	case !c.http.Answered(): // 100 Continue was written
		c.requestStart = c.now()
	case c.http.Last():
		c.clientMaySend = c.clientMaySend || c.consumed < len(c.in) || hasUnread(c.raw)
		c.mustClose = true
	default:
		c.becomeIdle()
	}
}

// becomeIdle begins the idle time between requests. Only small buffers of the previous
// request stay.
func (c *conn) becomeIdle() {
	if cap(c.out) > firstReadBytes {
		c.out = nil
	}
	c.requestStart = time.Time{}
	c.idleSince.Store(c.registry.deadline(c.now()))
	c.hold.CompareAndSwap(holdKept, holdFree)
	c.enter(stateIdle)
	c.endIfShuttingDown() // the server may have begun to shut down after the answer's header was made
}

// endIfShuttingDown ends an idle connection during shutdown, unless a request has arrived.
func (c *conn) endIfShuttingDown() {
	if c.registry.shuttingDown.Load() && !hasUnread(c.raw) {
		c.end()
	}
}

// releaseRequest ends the claim of the current request and frees its memory. It is called
// whatever the outcome is.
func (c *conn) releaseRequest() {
	if r := c.request; r != nil {
		r.settle(c.server.window, false)
		c.request = nil
		c.server.release(r)
	}
}

// releaseLargeBody frees the memory of a large answer.
func (c *conn) releaseLargeBody() {
	c.server.releaseReservation(c.largeReserved)
	c.largeReserved, c.largeBody = reservation{}, nil
}
