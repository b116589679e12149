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
		jsAPI + "DIRECT.GET." + stream,
		jsAPI + "DIRECT.GET." + stream + ".>",
	}
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
