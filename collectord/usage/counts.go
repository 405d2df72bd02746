package usage

// Count is the number of usages rejected with one code.
type Count struct {
	Code string
	N    int
}

// Counts holds the rejections of one batch, in order of first occurrence.
type Counts []Count

// Add counts one rejection with the code.
func (c *Counts) Add(code string) {
	for i := range *c {
		if (*c)[i].Code == code {
			(*c)[i].N++
			return
		}
	}
	*c = append(*c, Count{code, 1})
}

// Total returns the number of rejections over all codes.
func (c Counts) Total() (n int) {
	for i := range c {
		n += c[i].N
	}
	return n
}
