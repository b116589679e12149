package access

import "tidemark/events"

const jsAPI = "$JS.API."

// anyStream stands for every stream: a journal's name cannot be told by its beginning.
const anyStream = "*"

// read lets a user read a stream from any position, and follow it.
func read(stream string) []string {
	return append(look(stream), follow(stream)...)
}

// follow lets a user have the server deliver a stream.
func follow(stream string) []string {
	return []string{
		jsAPI + "CONSUMER.CREATE." + stream + ".>",
		jsAPI + "CONSUMER.INFO." + stream + ".*",
		jsAPI + "CONSUMER.MSG.NEXT." + stream + ".*",
		jsAPI + "CONSUMER.DELETE." + stream + ".*",
		"$JS.ACK." + stream + ".>",
		// The form that a later server uses: with its domain and the account.
		"$JS.ACK.*.*." + stream + ".>",
	}
}

// look lets a user ask how a stream stands, and for single messages.
func look(stream string) []string {
	return []string{
		jsAPI + "STREAM.INFO." + stream,
		// Not DIRECT.GET: its answer may be empty, see heed.
		jsAPI + "STREAM.MSG.GET." + stream,
	}
}

// heed lets whoever is not trusted with the streams have one delivered to its inbox, and say that it keeps up. It may
// neither pull nor acknowledge: the server answers both with empty messages, wherever the
// user says that the reply is to go, and an empty message at the right subject is what
// deletes a stream. All that it answers to these is JSON. What it delivers goes only where
// somebody listens to just that subject, which the server does at none of its commands.
func heed(stream string) []string {
	return append(look(stream),
		jsAPI+"CONSUMER.CREATE."+stream+".>",
		jsAPI+"CONSUMER.INFO."+stream+".*",
		jsAPI+"CONSUMER.DELETE."+stream+".*",
		"$JS.FC."+stream+".>",
		"$JS.FC.*.*."+stream+".>", // with its domain and the account, as of a later server
	)
}

// change lets a user make, alter, trim and delete a stream.
func change(stream string) []string {
	return append(alter(stream), jsAPI+"STREAM.CREATE."+stream)
}

func alter(stream string) []string {
	return []string{
		jsAPI + "STREAM.UPDATE." + stream,
		jsAPI + "STREAM.PURGE." + stream,
		jsAPI + "STREAM.DELETE." + stream,
	}
}

// siteStreams names the streams that every site has.
func siteStreams() []string {
	var names []string
	for _, s := range events.SiteStreams() {
		names = append(names, s.Name)
	}
	return names
}

// each joins what f returns for each of some streams.
func each(f func(string) []string, streams ...string) []string {
	var all []string
	for _, s := range streams {
		all = append(all, f(s)...)
	}
	return all
}
