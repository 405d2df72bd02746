package usage

// Count is how many usages were rejected with a code.
type Count struct {
	Code string
	N    int
}

// Counts are those of one batch, in the order in which the codes came up.
type Counts []Count

// Add counts one.
func (c *Counts) Add(code string) {
	for i := range *c {
		if (*c)[i].Code == code {
			(*c)[i].N++
			return
		}
	}
	*c = append(*c, Count{code, 1})
}

// Total is how many there are, of all codes.
func (c Counts) Total() (n int) {
	for i := range c {
		n += c[i].N
	}
	return n
}
