package bucket

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/minio/minio-go/v7"
)

// Step is one thing that shipping needs from a storage, and the result of its check.
type Step struct {
	Name    string // one of Steps
	Outcome Outcome
	Found   string // the finding, or why the step was not checked
	Advice  string // what to do about it; may be empty
}

// Outcome is the result of a step.
type Outcome int

// Outcomes of a step.
const (
	NotChecked Outcome = iota
	Passed
	Doubtful // shipping works nevertheless
	Failed
)

// The steps, in order: each depends on those before it.
const (
	stepName       = "name" // lookup of the endpoint, or of the proxy in front of it
	stepConnection = "connection"
	stepTLS        = "tls"
	stepAnswer     = "answer" // the answer is S3's
	stepKeys       = "credentials"
	stepBucket     = "bucket"
	stepPut        = "put"
	stepCondition  = "conditional_put"
	stepChecksum   = "checksum"
	stepEncryption = "encryption"
	stepClass      = "storage_class"
	stepRead       = "read"
	stepMetadata   = "metadata"
	stepList       = "list"
)

// Steps returns the names of all steps, in order.
func Steps() []string {
	return []string{
		stepName, stepConnection, stepTLS, stepAnswer, stepKeys, stepBucket, stepPut, stepCondition,
		stepChecksum, stepEncryption, stepClass, stepRead, stepMetadata, stepList,
	}
}

// Examine checks the steps of shipping to a bucket and stops at the first failure. It
// puts only the objects that Probe puts. It returns nil for a folder.
func Examine(ctx context.Context, store Store) []Step {
	s, ok := store.(*s3Store)
	if !ok {
		return nil
	}
	x := examination{store: s}
	if x.reach(ctx) && x.probe(ctx) && x.read(ctx) {
		x.list(ctx)
	}
	if last := &x.steps[len(x.steps)-1]; last.Outcome == Failed && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		last.Found, last.Advice = "the storage has not answered within the time of this check", defaultAdvice(stepAnswer) // any error can follow the time limit
	}
	return x.addNotReached()
}

// examination is the state of a running Examine.
type examination struct {
	store *s3Store
	steps []Step // results so far, in the order of Steps
}

func (x *examination) add(name string, outcome Outcome, found, advice string) bool {
	x.steps = append(x.steps, Step{name, outcome, found, advice})
	return outcome != Failed
}

// addNotReached adds the steps that were not reached.
func (x *examination) addNotReached() []Step {
	last := x.steps[len(x.steps)-1].Name
	for _, name := range Steps()[len(x.steps):] {
		x.add(name, NotChecked, last+" comes first", "")
	}
	return x.steps
}

// probe adds the steps that the probe checks.
func (x *examination) probe(ctx context.Context) bool {
	s, t := x.store, callOptionsOf(ctx)
	found, err := s.probe(WithCallOptions(ctx, t))
	if failure := (*Error)(nil); err != nil && errors.As(s.fail("put", probeKey, t, err), &failure) { // fail always returns an *Error
		return x.addFailed(stepOf(failure), failure)
	}
	x.addPassedBefore(stepCondition)
	condition := "a put replaces nothing (If-None-Match)"
	if !found.conditional {
		condition = "the storage has no conditional put: each put is preceded by a request that looks for the key"
	}
	x.add(stepCondition, Passed, condition, "")
	if found.checksumName() == checksumOff.String() {
		x.add(stepChecksum, Doubtful, "the storage verifies no checksum: a damaged upload is noticed only when the stored object is checked later", "leave shipper.s3.checksum: auto, and use a storage that verifies checksums")
	} else {
		x.add(stepChecksum, Passed, "the storage refuses a wrong "+found.checksumName(), "")
	}
	switch {
	case found.encryption != "":
		x.add(stepEncryption, Passed, "the storage confirms "+found.encryption, "")
	case s.sse == nil:
		x.add(stepEncryption, Passed, "not requested (shipper.s3.sse is empty)", "")
	default:
		x.add(stepEncryption, Doubtful, "the storage does not confirm that it encrypts, and is used nevertheless (shipper.s3.sse_unconfirmed: accept)", "make sure that the storage encrypts")
	}
	switch {
	case found.classTrouble != "":
		x.add(stepClass, Doubtful, found.classTrouble, "")
	case s.storageClass == "":
		x.add(stepClass, Passed, "the bucket's default", "")
	default:
		x.add(stepClass, Passed, s.storageClass, "")
	}
	return true
}

// passedText returns the finding of a step of the probe that did not fail.
func (x *examination) passedText(name string) string {
	switch name {
	case stepAnswer:
		return "S3 answers at " + x.store.client.EndpointURL().String()
	case stepKeys:
		return "the keys from " + x.store.provider.source() + " are accepted"
	case stepBucket:
		return x.store.bucket + " exists"
	case stepPut:
		return "a put of " + x.store.prefix + probeKey + " is accepted"
	}
	return "the storage answers"
}

// addPassedBefore adds the steps between the last one and name as passed.
func (x *examination) addPassedBefore(name string) {
	for _, step := range Steps()[len(x.steps):] {
		if step == name {
			return
		}
		x.add(step, Passed, x.passedText(step), "")
	}
}

// addFailed adds a step that failed. It replaces an earlier result of the same step.
func (x *examination) addFailed(name string, e *Error) bool {
	if i := slices.Index(Steps(), name); i < len(x.steps) {
		x.steps = x.steps[:i]
	}
	if name == stepPut && !acceptedKeys(e) {
		x.addPassedBefore(stepKeys)
		x.add(stepKeys, NotChecked, "the storage failed before it checked this", "")
		x.add(stepBucket, NotChecked, "the storage failed before it checked this", "")
	}
	x.addPassedBefore(name)
	return x.add(name, Failed, e.Err.Error(), cmp.Or(e.Hint, defaultAdvice(name)))
}

// acceptedKeys reports whether a storage with this failure has accepted the keys and knows
// the bucket. A busy or broken storage has checked neither.
func acceptedKeys(e *Error) bool {
	switch minio.ToErrorResponse(e.Err).StatusCode {
	case 0, http.StatusForbidden, http.StatusInsufficientStorage:
		return true
	}
	return false
}

// defaultAdvice returns the advice for a failed step that has no hint.
func defaultAdvice(name string) string {
	switch name {
	case stepConnection:
		return "check the storage, and the network between this host and the storage"
	case stepAnswer:
		return "check which server answers at shipper.s3.endpoint, and whether it hangs"
	}
	return "check the storage: its log, or its provider, can explain the error"
}

// stepOf returns the step at which a probe failed.
func stepOf(e *Error) string {
	var setting *settingError
	errors.As(e.Err, &setting)
	switch resp := minio.ToErrorResponse(e.Err); {
	case e.Kind == "dns":
		return stepName
	case e.Kind == "tls":
		return stepTLS
	case e.Kind == "network", e.Kind == "proxy":
		return stepConnection
	case e.Kind == NotAStore, e.Kind == Timeout, e.Kind == "header":
		return stepAnswer
	case e.Kind == Unverified:
		return stepChecksum
	case e.Kind == NotEncrypted, setting != nil && setting.setting == settingSSE, isAboutEncryption(resp):
		return stepEncryption
	case setting != nil, resp.Code == "InvalidStorageClass":
		return stepClass
	case e.Kind == "credentials", isAboutKeys(resp.Code), resp.StatusCode == http.StatusUnauthorized, isAccountTrouble(resp.Code):
		return stepKeys
	case resp.Code == minio.NoSuchBucket, resp.Code == "InvalidBucketName", isOtherRegion(resp.Code), e.Hint == noRegionHint:
		return stepBucket
	case e.Kind == Unproven && e.Permanent: // reading the object back is forbidden
		return stepRead
	}
	return stepPut
}

// read adds the result of reading the probe's object back.
func (x *examination) read(ctx context.Context) bool {
	s, t := x.store, callOptionsOf(ctx)
	info, err := s.client.StatObject(ctx, s.bucket, s.prefix+probeKey, minio.StatObjectOptions{})
	if err == nil {
		err = s.readBack(ctx, ProbeObject())
	}
	if err != nil {
		failure := &Error{Err: errors.New("the storage does not have the object that was put"), Hint: "the storage, or a server that answers in its place, keeps nothing, or a program deletes objects"}
		if errors.As(s.fail("open", probeKey, t, err), &failure); failure.Forbidden || minio.ToErrorResponse(err).StatusCode == http.StatusForbidden {
			x.add(stepRead, Doubtful, "the access key may not read: a segment whose name is taken waits, and confirmed objects are not checked again", "grant s3:GetObject on this bucket and prefix; docs/storages.md, Permissions")
			return x.add(stepMetadata, NotChecked, stepRead+" comes first", "")
		}
		return x.addFailed(stepRead, failure)
	}
	x.add(stepRead, Passed, "the object that was put was read back", "")
	if info.UserMetadata[formatHeader] == "" {
		return x.add(stepMetadata, Doubtful, "the storage forgets user metadata: an audit knows only the names of the objects", "see whether a gateway or proxy removes x-amz-meta-*")
	}
	return x.add(stepMetadata, Passed, "user metadata is kept", "")
}

// list adds the result of listing the bucket.
func (x *examination) list(ctx context.Context) {
	found := 0
	for _, err := range x.store.List(ctx, ownDir+"/") {
		var failure *Error
		switch {
		case errors.As(err, &failure) && failure.Forbidden:
			x.add(stepList, Doubtful, "the access key may not list: collectord cat, audit and fleet can't use it", failure.Hint)
			return
		case err != nil:
			x.add(stepList, Doubtful, err.Error(), "")
			return
		}
		found++
		break
	}
	if found == 0 {
		x.add(stepList, Doubtful, "the listing lacks the object that was put", "collectord cat, audit and fleet miss objects: update the storage, or see whether a proxy caches")
		return
	}
	x.add(stepList, Passed, "the listing has the object that was put", "")
}
