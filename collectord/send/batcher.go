package send

// batcher builds the bodies of requests and datagrams. Each worker has its own.
type batcher struct {
	source source
	plan   *plan
	form   form
	coder  coder // nil: no compression

	prepared [][]byte // bodies that are sent repeatedly, or none
	plain    []byte   // buffer for a body before compression
}

// form is how several usages are combined into one body.
type form struct{ before, between, after string }

func formOf(o Options, t target) form {
	switch {
	case t.udp(), o.Lines:
		return form{between: "\n"} // the daemon resumes at a newline after an invalid usage
	case o.Batch > 1:
		return form{"[", ",", "]"}
	}
	return form{}
}

func (r *run) newBatcher() *batcher {
	return &batcher{source: r.opts.source(), plan: r.plan, form: formOf(r.opts, r.target), coder: newCoder(r.opts.Compress), prepared: r.prepared}
}

// prepare builds the bodies that are then sent repeatedly.
func (r *run) prepare() {
	p := r.newBatcher()
	var prepared [][]byte
	for k := range min(int64(r.opts.Prepared), r.plan.batches) {
		var memory []byte
		prepared = append(prepared, p.body(&memory, k))
	}
	r.prepared = prepared
}

// body returns the body of batch k. Unless the body is prepared, it is built in
// the buffer memory, which belongs to the caller.
func (p *batcher) body(memory *[]byte, k int64) []byte {
	size := p.plan.size(k)
	if len(p.prepared) > 0 && size == p.plan.batchSize {
		return p.prepared[k%int64(len(p.prepared))]
	}
	into := memory
	if p.coder != nil {
		into = &p.plain
	}
	b := append((*into)[:0], p.form.before...)
	first := k * p.plan.batchSize
	for i := range size {
		if i > 0 {
			b = append(b, p.form.between...)
		}
		b = p.source.appendUsage(b, first+i)
	}
	b = append(b, p.form.after...)
	*into = b
	if p.coder != nil {
		*memory = p.coder((*memory)[:0], b)
	}
	return *memory
}
